"""Questions, where they come from, and gold trajectories made of them."""
