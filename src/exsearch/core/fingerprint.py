"""Identifies values by their content."""

import hashlib

import msgspec


def fingerprint(value: object) -> str:
    """Return 16 hex digits that identify `value`, anything msgspec encodes, by its content."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]
