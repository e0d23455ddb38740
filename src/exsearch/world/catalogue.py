"""The whole schema in one place: every kind, relation and role of the world, as in words/*.toml."""

from pathlib import Path
from typing import Any

import msgspec

from exsearch.core.toml import read_toml
from exsearch.world.schema import EntityKind, Names, Relation, Role

_FILES = ("people", "places", "organisations", "works")
"""Kinds in the order in which a block generates them: what a year is drawn from comes before what it dates."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of one of words/*.toml."""

    kind: tuple[EntityKind, ...]
    relation: tuple[Relation, ...]
    role: tuple[Role, ...] = ()
    names: Names | None = None


def _read(name: str) -> _File:
    content: dict[str, Any] = read_toml(Path(__file__).parent / "words" / f"{name}.toml")
    return msgspec.convert(content, _File)


_READ = [_read(name) for name in _FILES]
KINDS: dict[str, EntityKind] = {kind.name: kind for file in _READ for kind in file.kind}
RELATIONS: dict[str, Relation] = {relation.name: relation for file in _READ for relation in file.relation}
ROLES: tuple[Role, ...] = tuple(role for file in _READ for role in file.role)
[NAMES] = [file.names for file in _READ if file.names]


def relations_of(kind: str) -> list[Relation]:
    """Return the relations whose head is of `kind`."""
    return [relation for relation in RELATIONS.values() if relation.head == kind]
