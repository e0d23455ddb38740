"""A run as one static HTML page."""
