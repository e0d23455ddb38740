"""Passages, and the store that holds them."""
