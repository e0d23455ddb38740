"""What an endpoint that speaks text needs to know of token ids."""

from typing import Protocol

from exsearch.core.tokens import TokenIds


class Conversation(Protocol):
    """Translates between the token ids of a conversation and what is said in it."""

    def encode_said(self, text: str) -> TokenIds:
        """Return the token ids of a text that the model has said."""
        ...

    def decode(self, ids: TokenIds) -> str:
        """Return the text of token ids."""
        ...

    def encode_turn(self, text: str) -> TokenIds:
        """Return the token ids with which the model says a text in a turn of its own, without the stop token."""
        ...

    def decode_turn(self, ids: TokenIds) -> str:
        """Return what the model says in a turn."""
        ...

    def messages(self, ids: TokenIds) -> list[dict[str, str]]:
        """Return the conversation whose token ids these are."""
        ...
