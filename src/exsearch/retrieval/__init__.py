"""Retrievers, which turn queries into passages, and the index folders that they read."""
