"""Figures of a run as it goes on, and where they are shown."""
