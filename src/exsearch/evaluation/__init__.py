"""Metrics, protocol and scores."""
