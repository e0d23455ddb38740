"""Readers of the question files that people have."""
