"""Retrievers: from queries to passages, and the index folders they read."""
