"""Warm-up trajectories: planned from gold passages or made by a teacher, written, and assessed."""
