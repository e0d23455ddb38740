"""Seeds derived from what they are for."""

import hashlib


def derive_seed(*parts: object) -> int:
    """Return a 64-bit seed that depends on all parts and nothing else, such as (run seed, question id, sample)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
