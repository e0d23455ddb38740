"""How far a model can see, and how long a conversation with it may be: by its configuration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from exsearch.engine.layers import text_part

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""What configurations call the length that a model was made for."""
_WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size", "attention_chunk_size")
"""What they call the number of tokens that a layer sees."""
_CHOSEN = ("index_topk", "keep_window_size")
"""What they call the number of tokens that a layer chooses from all that it sees."""
UNLIMITED = 2**31 - 1
"""The context of a model that names none, such as one without positions."""


def context_limit(config: PreTrainedConfig) -> int:
    """Return the largest number of tokens that a conversation may have. A window is no limit."""
    steady = steady_limit(config)
    return min(made_for(config), steady.tokens if steady else UNLIMITED)


def made_for(config: PreTrainedConfig) -> int:
    """Return how many tokens a model was made for, `UNLIMITED` if its configuration does not say."""
    text = config.get_text_config(decoder=True)
    lengths = (value for name in _LENGTHS if isinstance(value := getattr(text, name, None), int))
    return next(lengths, UNLIMITED)


@dataclass(frozen=True)
class SteadyLimit:
    """Up to how many tokens what a model makes of a token does not depend on how many follow."""

    tokens: int
    reason: str
    """What depends on that beyond."""


def steady_limit(config: PreTrainedConfig) -> SteadyLimit | None:
    """Return a model's limit, or None if it has none.

    Rotary frequencies that change with the length of a pass make other keys than those kept of earlier passes, and so
    other log-probs for one conversation alone and beside a longer one. A choice of the few tokens to attend to has
    ties, which another length breaks otherwise.
    """
    text = config.get_text_config(decoder=True)
    ropes = getattr(text, "rope_parameters", None) or {}
    found = []
    for rope in ropes, *(value for value in ropes.values() if isinstance(value, dict)):
        original = rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", 0)
        if rope.get("rope_type") == "longrope" and original:
            found.append(SteadyLimit(int(original), "its rotary positions (longrope)"))
        elif rope.get("rope_type") == "dynamic":
            # transformers lets them grow from here on, whatever the settings call the original length
            found.append(SteadyLimit(int(text.max_position_embeddings), "its rotary positions (dynamic)"))
    for name in _CHOSEN:
        if chosen := getattr(text, name, None):
            found.append(SteadyLimit(int(chosen), f"which tokens it attends to ({name})"))
    return min(found, key=lambda limit: limit.tokens, default=None)


def windows_of(model: PreTrainedModel) -> list[int]:
    """Return how many tokens layers see that do not see all, smallest first."""
    return sorted({int(getattr(holder, name)) for holder, name in _windows(model)})


@contextmanager
def narrowed(model: PreTrainedModel, window: int) -> Iterator[None]:
    """Give a model's windows a smaller size for as long as the context lasts, so that a short text is beyond them."""
    before = [(holder, name, getattr(holder, name)) for holder, name in _windows(model)]
    try:
        for holder, name, value in before:
            setattr(holder, name, min(value, window))
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)


def _windows(model: PreTrainedModel) -> list[tuple[Any, str]]:
    """Return the modules and configurations that name a window, and by what name."""
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
