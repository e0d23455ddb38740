"""The interface through which an endpoint that exchanges text converts to and from token ids."""

from typing import Protocol

from exsearch.core.tokens import TokenIds


class Conversation(Protocol):
    """Converts between the token ids of a conversation and its text."""

    def encode_completion(self, text: str) -> TokenIds:
        """Return the token ids of a text that the model has generated."""
        ...

    def decode(self, ids: TokenIds) -> str:
        """Return the text of token ids."""
        ...

    def encode_turn(self, text: str) -> TokenIds:
        """Return the token ids of a model's turn with this text, without the stop token."""
        ...

    def decode_turn(self, ids: TokenIds) -> str:
        """Return the text of a model's turn."""
        ...

    def messages(self, ids: TokenIds) -> list[dict[str, str]]:
        """Return the messages of the conversation with these token ids."""
        ...
