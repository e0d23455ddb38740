"""Readers of question files in public formats."""
