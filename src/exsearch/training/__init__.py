"""Weighted fine-tuning."""
