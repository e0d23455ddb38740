"""Tokenises texts in the context in which they stand, when what precedes them has its tokens already.

On its own, a text may get other tokens: SentencePiece puts a space before what it takes for the beginning, and a token
may span the boundary to the preceding text.
"""

from exsearch.agent.control_tokens import ControlTokens
from exsearch.core.tokens import TokenIds

_ANCHORS = ("\n", "x", ".", "0")
"""Texts to put before another one, so that it stands in the middle of a longer text."""


class InContext:
    """Tokenises and decodes parts of texts. Control tokens have hidden names; text that spells them stays text."""

    def __init__(self, controls: ControlTokens) -> None:
        """Find anchors after which a text can be tokenised without the anchor affecting its tokens."""
        self._controls = controls
        anchors = [(anchor, controls.encode(anchor)) for anchor in _ANCHORS]
        self._anchors = [(anchor, ids) for anchor, ids in anchors if self._joins(anchor, ids)]

    def _joins(self, anchor: str, ids: TokenIds) -> bool:
        whole = self._controls.encode(f"{anchor}Paris")
        return whole[: len(ids)] == ids and self._controls.decode(whole) == self._controls.decode(ids) + "Paris"

    def tokens_after(self, context: str, text: str) -> TokenIds | None:
        """Return the tokens of a text that follows `context`; None if a token would span the boundary."""
        before, whole = self._controls.encode(context), self._controls.encode(context + text)
        return whole[len(before) :] if whole[: len(before)] == before else None

    def encode(self, text: str) -> TokenIds:
        """Return the tokens of a text in the middle of a longer one."""
        return self._with_places(text)[0]

    def beginning(self, text: str, tokens: int) -> str:
        """Return the longest beginning of a text with at most this many tokens and only whole characters."""
        _, places = self._with_places(text)
        if len(places) <= tokens:
            return text
        whole = (n for n in range(tokens, 0, -1) if places[n - 1][1] <= places[n][0])
        return text[: next((places[n - 1][1] for n in whole), 0)]

    def _with_places(self, text: str) -> tuple[TokenIds, list[tuple[int, int]]]:
        """Return the tokens of a text in the middle of a longer one, and where each begins and ends in it."""
        if not text:
            return [], []
        for anchor, before in self._anchors:
            if anchor.isspace() and text[0].isspace():
                continue  # white space merges
            ids, places = self._controls.encode_with_places(anchor + text)
            if ids[: len(before)] == before:
                shifted = [(begin - len(anchor), end - len(anchor)) for begin, end in places[len(before) :]]
                return ids[len(before) :], shifted
        return self._controls.encode_with_places(text)

    def decode(self, ids: TokenIds) -> str:
        """Return the text of tokens in the middle of others, with control tokens as they are spelled."""
        if self._anchors:
            before = self._anchors[0][1]
            text, prefix = self._controls.decode(before + ids), self._controls.decode(before)
            if text.startswith(prefix):
                return self._controls.show(text.removeprefix(prefix))
        return self._controls.show(self._controls.decode(ids))
