"""Token ids."""

import numpy as np

TokenIds = list[int]


def common_start(first: TokenIds, second: TokenIds) -> int:
    """Return the number of tokens with which both begin."""
    shorter = min(len(first), len(second))
    if first[:shorter] == second[:shorter]:
        return shorter
    differs = np.array(first[:shorter]) != np.array(second[:shorter])
    return int(differs.argmax())
