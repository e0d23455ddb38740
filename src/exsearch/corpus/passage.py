"""A passage: the unit that is indexed, retrieved and read."""

import msgspec


class Passage(msgspec.Struct, frozen=True):
    """One passage of a corpus."""

    id: str
    title: str
    text: str


class Hit(msgspec.Struct, frozen=True):
    """A retrieved passage with its score (higher is better; the scale is the retriever's) and rank from 1."""

    passage: Passage
    score: float
    rank: int
