"""Attention that reads each key and value once for all query heads that share it.

With a mask, transformers' implementations repeat keys and values in memory for grouped queries, which is most of the
work of a decoding step. Here the query heads of a group become further queries of their key head.
"""

from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface

from exsearch.engine.models.attending import attend_in_blocks, require_known

GROUPED = "exsearch_grouped"

_masks_by_mask: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Masks derived from a pass's mask, cached for its other layers by window and number of repetitions."""


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention, (rows, new tokens, heads, width).

    `query` has shape (rows, heads, new tokens, width), `key` and `value` (rows, key heads, visible tokens, width).
    The mask is added to the scores: (rows, 1, new tokens, visible tokens), causal. Raises UnknownArgumentError.
    """
    require_known(module, others)
    assert attention_mask is not None, "this attention is for SlotCache, which always masks"
    rows, heads, new, width = query.shape
    shared = key.shape[1]
    if softcap is not None or s_aux is not None:
        mask = _mask(attention_mask, sliding_window, 1)
        mixed = attend_in_blocks(query, key, value, mask, scaling, softcap, s_aux)
    else:
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query.reshape(rows, shared, heads // shared * new, width),
            key,
            value,
            attn_mask=_mask(attention_mask, sliding_window, heads // shared),
            scale=scaling,
        ).reshape(rows, heads, new, value.shape[-1])
    return mixed.transpose(1, 2).contiguous(), None


def _mask(mask: torch.Tensor, window: int | None, groups: int) -> torch.Tensor:
    """Return a causal mask, limited to the last `window` positions, if any, and repeated per head of a group."""
    cached: dict[tuple[int | None, int], torch.Tensor] = _masks_by_mask.setdefault(mask, {})
    if (window, groups) not in cached:
        within = mask
        if window is not None:
            own = (mask == 0).sum(dim=-1, keepdim=True) - 1
            position = torch.arange(mask.shape[-1], device=mask.device)
            within = mask.masked_fill(position <= own - window, -torch.inf)
        cached[window, groups] = within.repeat(1, 1, groups, 1) if groups > 1 else within
    return cached[window, groups]


AttentionInterface.register(GROUPED, grouped_attention)
