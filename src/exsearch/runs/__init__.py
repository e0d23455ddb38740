"""The files that a training run writes."""
