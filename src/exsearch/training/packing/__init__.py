"""Ways to compute several examples together."""
