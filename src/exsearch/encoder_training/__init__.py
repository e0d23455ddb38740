"""Training of a token encoder on gold passages and on an agent's searches."""
