"""Limits of a model's context, from its configuration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from exsearch.engine.models.layers import text_part

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""Names, in configurations, of the context length that a model was trained for."""
_WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size", "attention_chunk_size")
"""Names of the number of tokens that a layer sees (its window)."""
_CHOSEN = ("index_topk", "keep_window_size")
"""Names of the number of tokens that a layer selects from all that it sees."""
UNLIMITED = 2**31 - 1
"""Context of a model that specifies none, such as one without positions."""


def context_limit(config: PreTrainedConfig) -> int:
    """Return the maximum number of tokens of a conversation. A window is not a limit."""
    steady = steady_limit(config)
    return min(made_for(config), steady.tokens if steady else UNLIMITED)


def made_for(config: PreTrainedConfig) -> int:
    """Return the number of tokens that a model was trained for, `UNLIMITED` if its configuration does not say."""
    text = config.get_text_config(decoder=True)
    lengths = (value for name in _LENGTHS if isinstance(value := getattr(text, name, None), int))
    return next(lengths, UNLIMITED)


@dataclass(frozen=True)
class SteadyLimit:
    """The number of tokens up to which a token's result does not depend on how many tokens follow."""

    tokens: int
    reason: str
    """What depends on the length beyond that."""


def steady_limit(config: PreTrainedConfig) -> SteadyLimit | None:
    """Return a model's limit, or None if it has none.

    Rotary frequencies that change with the length of a pass give other keys than those kept from earlier passes, and so
    other log-probs for a conversation on its own than next to a longer one. A selection of tokens to attend to may have
    ties, which are resolved differently at another length.
    """
    text = config.get_text_config(decoder=True)
    ropes = getattr(text, "rope_parameters", None) or {}
    limits = []
    for rope in ropes, *(value for value in ropes.values() if isinstance(value, dict)):
        original = rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", 0)
        if rope.get("rope_type") == "longrope" and original:
            limits.append(SteadyLimit(int(original), "its rotary positions (longrope)"))
        elif rope.get("rope_type") == "dynamic":
            # transformers changes them from here on, whatever the settings name as original length
            limits.append(SteadyLimit(int(text.max_position_embeddings), "its rotary positions (dynamic)"))
    for name in _CHOSEN:
        if count := getattr(text, name, None):
            limits.append(SteadyLimit(int(count), f"which tokens it attends to ({name})"))
    return min(limits, key=lambda limit: limit.tokens, default=None)


def windows_of(model: PreTrainedModel) -> list[int]:
    """Return the windows of a model's layers that do not see all tokens, smallest first."""
    return sorted({int(getattr(holder, name)) for holder, name in _windows(model)})


@contextmanager
def narrowed(model: PreTrainedModel, window: int) -> Iterator[None]:
    """Reduce a model's windows while the context lasts, so that a short text exceeds them."""
    before = [(holder, name, getattr(holder, name)) for holder, name in _windows(model)]
    try:
        for holder, name, value in before:
            setattr(holder, name, min(value, window))
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)


def _windows(model: PreTrainedModel) -> list[tuple[Any, str]]:
    """Return the modules and configurations that specify a window, and the attribute's name."""
    modules = [model, *text_part(model).modules()]
    holders: dict[int, Any] = {id(module): module for module in modules}
    configs = [getattr(module, "config", None) for module in modules]
    for config in configs:
        if isinstance(config, PreTrainedConfig):
            text = config.get_text_config(decoder=True)
            holders |= {id(config): config, id(text): text}
    return [
        (holder, name)
        for holder in holders.values()
        for name in _WINDOWS
        if type(vars(holder).get(name)) is int and vars(holder)[name] > 0
    ]
