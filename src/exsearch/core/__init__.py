"""Foundations that know nothing about search: errors, files, texts, numbers."""
