"""Training of a token encoder on what an agent's searches were good for."""
