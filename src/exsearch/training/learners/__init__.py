"""Models and their optimisers, on one rank or several."""
