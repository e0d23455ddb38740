"""Figures of a run in progress, and the trackers that show them."""
