"""Grammars other than the project's own: baselines, and those of other systems' checkpoints."""
