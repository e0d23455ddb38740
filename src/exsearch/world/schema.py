"""The schema of the world: kinds of entity, the relations between them, and their wording.

The data is in words/*.toml. A template has the fields `{s}`,
the subject, and `{o}`, the object; `{they}` and `{their}` are the subject's pronouns.
"""

from collections.abc import Mapping

import msgspec

YEAR = "year"
"""Tail of a relation whose value is the year of its head: of birth, of foundation, of release."""
NUMBER = "number"
"""Tail of a relation whose value is a measure, such as a height."""


class ComparisonTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks which of two entities of one kind has the smaller (or larger) year or measure."""

    text: str
    least: bool


class Relation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A functional relation: its head has at most one tail. With templates for stating it and for asking for it."""

    name: str
    head: str
    tail: str
    plain: tuple[str, ...]
    """Short statements; they serve passages and evidence alike."""
    rich: tuple[str, ...]
    """Longer statements for passages."""
    asks: tuple[str, ...]
    """Questions for the tail."""
    phrases: tuple[str, ...] = ()
    """Noun phrases that stand for the tail, such as 'the director of {s}'."""
    participle: str = ""
    """What follows 'the film was', such as 'directed by {o}'; lets the relation narrow an intersection."""
    roles: tuple[str, ...] = ()
    """Roles that a person must have to be the tail; empty for any person."""
    gap: tuple[int, int] | None = None
    """Minimum and maximum of the head's year minus the tail's."""
    dates: bool = False
    """The head's year is drawn from the tail's year plus `gap`."""
    measure: tuple[int, int, str] = (0, 0, "")
    """Minimum, maximum and unit of a NUMBER."""
    comparisons: tuple[ComparisonTemplate, ...] = ()

    @property
    def literal(self) -> bool:
        """Whether the tail is a year or a number instead of an entity."""
        return self.tail in (YEAR, NUMBER)


class EntityKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of entity.

    A name pattern is `canonical|alias|alias` with `{w}` for an invented word; `~` before a form means that it
    takes 'the' in running text.
    """

    name: str
    share: int
    """Entities of this kind in a block of about 300."""
    patterns: tuple[str, ...]
    openings: tuple[str, ...]
    """First sentences; fields name the subject, attributes of the kind and relations."""
    refs: tuple[str, ...]
    """How a later sentence calls the subject; the last one is no pronoun."""
    flavours: tuple[str, ...]
    """Sentences that tell no fact of a relation; `{person}` and `{city}` are passing mentions of others."""
    mention: str = ""
    """The name with a word on what it is, such as 'the film {name}'; needed where names are shared."""
    two_passages: bool = False
    namesakes: int = 2
    """How many entities of a block share an invented word."""
    eponyms: tuple[str, ...] = ()
    """Patterns for a name taken from another entity, `{person}` or `{city}`."""
    attributes: Mapping[str, tuple[str, ...]] = {}
    """Possible values of each attribute, drawn in this order."""
    years: tuple[int, int] = (1200, 1800)
    """Range of the year where no relation sets it."""


class Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A walk of life: it decides what a person can direct, found or climb, and when they can live."""

    name: str
    share: int
    occupations: tuple[str, ...]
    born: tuple[int, int]
    honorific: str = ""


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Given names; after a colon comes the short form that a nickname uses."""

    women: tuple[str, ...]
    men: tuple[str, ...]
