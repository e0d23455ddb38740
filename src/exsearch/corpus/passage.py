"""A passage: the unit that is indexed, retrieved and read."""

import msgspec

# gc=False: a batch of searches makes thousands of these, which would set off collections, and none refers to itself.


class Passage(msgspec.Struct, frozen=True, gc=False):
    """One passage of a corpus.

    >>> xs.Passage(id="p1", title="Marlow Observatory", text="Ada Quill founded it in 1871.").title
    'Marlow Observatory'
    """

    id: str
    title: str
    text: str


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A retrieved passage with its score (higher is better; the scale is the retriever's) and rank from 1.

    >>> [hits] = index.search(["a lighthouse"], k=2)
    >>> [hit.rank for hit in hits], hits[0].score >= hits[1].score
    ([1, 2], True)
    """

    passage: Passage
    score: float
    rank: int


def split_contents(contents: str) -> tuple[str, str]:
    """Split `contents` into title, its first line less any quotes around it, and text, the rest."""
    title, newline, text = contents.partition("\n")
    if not newline:
        return "", contents
    title = title.strip()
    if len(title) >= 2 and title[0] == title[-1] == '"':
        title = title[1:-1]
    return title, text
