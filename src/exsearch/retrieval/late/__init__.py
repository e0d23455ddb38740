"""Late interaction: one vector per token, compressed."""
