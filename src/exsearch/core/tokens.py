"""Token ids."""

import numpy as np

TokenIds = list[int]


def common_start(first: TokenIds, second: TokenIds) -> int:
    """Return how many tokens both begin with."""
    most = min(len(first), len(second))
    if first[:most] == second[:most]:
        return most
    differs = np.array(first[:most]) != np.array(second[:most])
    return int(differs.argmax())
