"""Late interaction: one compressed vector per token."""
