"""What an engine needs of whatever remembers conversations for it."""

from typing import Protocol

import torch

from exsearch.engine.call import Call


class Memory(Protocol):
    """Keeps what was computed of conversations, by the numbers of their seats, and computes what is new."""

    def prefill(self, call: Call) -> int:
        """Compute all but the last token of a call's prompt; return how many tokens needed no computing."""
        ...

    def advance(self, calls: list[Call]) -> torch.Tensor:
        """Feed one token of each call; return the logits behind it, (calls, vocabulary), float32."""
        ...

    def release(self, seat: int) -> None:
        """A conversation is over."""
        ...

    def forget(self) -> None:
        """Drop what is remembered of conversations that are over."""
        ...

    def clear(self) -> None:
        """Drop everything: a pass has failed, and what is remembered is no longer known."""
        ...
