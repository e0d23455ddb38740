"""The whole schema in one place: every kind and every relation of the world, by name."""

from exsearch.world.organisations import ORGANISATION_KINDS, ORGANISATION_RELATIONS
from exsearch.world.people import PEOPLE_RELATIONS, PERSON
from exsearch.world.places import PLACE_KINDS, PLACE_RELATIONS
from exsearch.world.schema import Kind, Relation
from exsearch.world.works import WORK_KINDS, WORK_RELATIONS

KINDS: dict[str, Kind] = {kind.name: kind for kind in (PERSON, *PLACE_KINDS, *ORGANISATION_KINDS, *WORK_KINDS)}
"""In the order in which a block makes them: what a year is drawn from comes before what it dates."""

RELATIONS: dict[str, Relation] = {
    relation.name: relation
    for relation in (*PEOPLE_RELATIONS, *PLACE_RELATIONS, *ORGANISATION_RELATIONS, *WORK_RELATIONS)
}


def relations_of(kind: str) -> list[Relation]:
    """Return the relations whose head is of `kind`."""
    return [relation for relation in RELATIONS.values() if relation.head == kind]
