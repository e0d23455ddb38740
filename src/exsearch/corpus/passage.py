"""A passage: the unit that is indexed, retrieved and read."""

import msgspec


class Passage(msgspec.Struct, frozen=True):
    """One passage of a corpus."""

    id: str
    title: str
    text: str
