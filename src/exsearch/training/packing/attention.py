"""Attention within a tree of packed examples: each node sees its ancestors and, causally, itself."""

from typing import Any

import torch
from transformers import AttentionInterface

from exsearch.engine.models.attending import UnknownArgumentError, attend_in_blocks, require_known
from exsearch.training.packing.tree import Node

TREE = "exsearch_tree"
"""Name under which models find it: `attn_implementation`."""


class Layout:
    """The nodes of a tree, as attention needs them. Masks are computed once for all layers."""

    def __init__(self, nodes: list[Node]) -> None:
        """Take the nodes in the order of their tokens."""
        self.nodes = nodes
        self.lengths = [node.stop - node.start for node in nodes]
        self._masks: dict[tuple[int, int | None, bool], torch.Tensor | None] = {}

    def mask(self, number: int, window: int | None, like: torch.Tensor, always: bool = False) -> torch.Tensor | None:
        """Return the mask to add to a node's scores, (tokens, tokens seen).

        None if it is plain causal (lower triangular), unless `always`.
        """
        if (number, window, always) not in self._masks:
            self._masks[number, window, always] = _mask(self.nodes[number], window, like, always)
        return self._masks[number, window, always]


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention, (1, tokens, heads, width).

    `query` has shape (1, heads, tokens, width), `key` and `value` (1, key heads, tokens, width). `layout` comes from
    the model's call, since models pass on arguments that they do not know. Raises UnknownArgumentError, also for a
    layer that does not get the layout.
    """
    require_known(module, others)
    if layout is None:
        raise UnknownArgumentError(f"{type(module).__name__} does not pass on which tokens belong together")
    special = softcap is not None or s_aux is not None
    queries, keys, values = (tensor.split(layout.lengths, dim=2) for tensor in (query, key, value))
    mixed = []
    for number, node in enumerate(layout.nodes):
        visible = [*node.ancestors, number]
        mask = layout.mask(number, sliding_window, query, always=special)
        seen_keys, seen_values = (torch.cat([parts[one] for one in visible], dim=2) for parts in (keys, values))
        if mask is not None and special:
            attended = attend_in_blocks(
                queries[number], seen_keys, seen_values, mask[None, None], scaling, softcap, s_aux
            )
        else:
            attended = torch.nn.functional.scaled_dot_product_attention(
                queries[number],
                seen_keys,
                seen_values,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        mixed.append(attended)
    return torch.cat(mixed, dim=2).transpose(1, 2).contiguous(), None


def _mask(node: Node, window: int | None, like: torch.Tensor, always: bool) -> torch.Tensor | None:
    length = node.stop - node.start
    windowed = window is not None and node.depth + length > window
    if not node.depth and not windowed and not always:
        return None
    own = torch.arange(node.depth, node.depth + length, device=like.device)[:, None]
    other = torch.arange(node.depth + length, device=like.device)[None, :]
    hidden = other > own
    if window is not None:
        hidden |= other <= own - window
    return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, -torch.inf)


AttentionInterface.register(TREE, tree_attention)
