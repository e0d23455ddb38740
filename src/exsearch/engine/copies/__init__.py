"""Several copies of the default engine."""
