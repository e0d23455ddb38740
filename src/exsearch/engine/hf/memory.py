"""The interface of a memory of conversations, as an engine needs it."""

from typing import Protocol

import torch

from exsearch.engine.hf.call import Call


class Memory(Protocol):
    """Keeps computed conversations, by the numbers of their seats, and computes new tokens."""

    def prefill(self, call: Call) -> int:
        """Compute all but the last token of a call's prompt; return how many tokens were cached."""
        ...

    def advance(self, calls: list[Call]) -> torch.Tensor:
        """Feed one token of each call; return the logits after it, (calls, vocabulary), float32."""
        ...

    def release(self, seat: int) -> None:
        """Note that a conversation is over."""
        ...

    def forget(self) -> None:
        """Drop the memory of conversations that are over."""
        ...

    def clear(self) -> None:
        """Drop everything: a pass has failed, so the memory's content is unknown."""
        ...
