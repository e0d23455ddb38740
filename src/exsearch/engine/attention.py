"""Attention that reads each key and value once for all query heads that share it.

The implementations of transformers repeat keys and values in memory for grouped queries as soon as there is a mask,
which for a decoding step is most of the work. Here the query heads of a group become further queries of its key head.
"""

from typing import Any

import torch
from transformers import AttentionInterface

GROUPED = "exsearch_grouped"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **ignored: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention, (rows, new tokens, heads, width).

    `query` has shape (rows, heads, new tokens, width), `key` and `value` (rows, key heads, visible tokens, width).
    The mask is added to the scores: (rows, 1, groups * new tokens, visible tokens), repeated for each head of a group.
    """
    assert attention_mask is not None, "this attention is for SlotCache, which always masks"
    rows, heads, new, width = query.shape
    shared = key.shape[1]
    folded = query.reshape(rows, shared, heads // shared * new, width)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, scale=scaling
    )
    return mixed.reshape(rows, heads, new, width).transpose(1, 2).contiguous(), None


AttentionInterface.register(GROUPED, grouped_attention)
