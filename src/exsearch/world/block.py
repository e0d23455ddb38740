"""A block: a few hundred entities linked among themselves. A world is a sequence of independent blocks."""

import random
from collections.abc import Sequence

from exsearch.world.catalogue import KINDS, NAMES, RELATIONS, ROLES, relations_of
from exsearch.world.entity import SPLITS, Entity, Split
from exsearch.world.names import Name, NameBook, from_pattern
from exsearch.world.schema import NUMBER, YEAR, EntityKind, Relation, Role

ENTITIES_PER_PASSAGE = 0.75
SPLIT_SHARES: dict[Split, float] = {"train": 0.6, "dev": 0.2, "test": 0.2}
GIVEN_NAMES = [(name, "she", "her") for name in NAMES.women] + [(name, "he", "his") for name in NAMES.men]
INITIALS = "JMRTCEHLWGSBDAPKNF"
_FAMILY = ((0, 0), (0, 1), (1, 0), (2, 0))
"""Given name and middle initial (none or one) of four consecutive namesakes: Ann, Ann J., Bea, Cora."""
PERSON_VARIANTS = len(GIVEN_NAMES) * len(INITIALS) // 2 // 3 * len(_FAMILY)


_LINK_WITHIN_SPLIT = 0.8
_LINK_TO_FAMOUS = 0.35
_HOMONYMS = 0.2
_TITLE_KEPT = {"based_on": 0.6, "album_band": 0.35}
"""How often a film has the title of its novel, and an album the name of its band."""
_EPONYMS = 0.5
_FAMOUS = {"person": 0.2, "city": 0.25}
"""Share of a kind that is famous: mentioned, honoured and related to more often than the others."""
_TO_FAMOUS = 0.5
_LAST_YEAR = 2019


def counts(passages: int) -> dict[str, int]:
    """Return how many entities of each kind a block of `passages` passages has."""
    total = round(passages * ENTITIES_PER_PASSAGE)
    whole = sum(kind.share for kind in KINDS.values())
    numbers = {kind.name: max(2, total * kind.share // whole) for kind in KINDS.values()}
    numbers["person"] += total - sum(numbers.values())
    return numbers


def cut(total: int, weights: Sequence[float]) -> list[int]:
    """Cut `total` into whole parts in proportion to `weights`."""
    ends = [round(total * sum(weights[: i + 1]) / sum(weights)) for i in range(len(weights))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


class Block:
    """The entities of one block and all facts about them."""

    def __init__(self, seed: int, number: int, passages: int, books: dict[str, NameBook], room: dict[str, int]) -> None:
        """Generate block `number` of `passages` passages.

        `room` is the maximum number of entities of each kind in any block of the world; block n takes its names from
        index n * room on, so that no two blocks are assigned the same name.
        """
        self.passages = passages
        self._rng = random.Random(f"world/{seed}/{number}")
        self._given = list(GIVEN_NAMES)
        random.Random(f"given/{seed}").shuffle(self._given)
        self.of_kind: dict[str, list[Entity]] = {}
        for kind, count in counts(passages).items():
            first = number * room[kind]
            names = range(first, first + count)
            self.of_kind[kind] = self._make(KINDS[kind], books[kind], names)
        self.entities = [entity for entities in self.of_kind.values() for entity in entities]
        self._share_names()
        self._famous = {
            kind: self._rng.sample(self.of_kind[kind], max(1, round(len(self.of_kind[kind]) * share)))
            for kind, share in _FAMOUS.items()
        }
        for entity in (entity for famous in self._famous.values() for entity in famous):
            entity.famous = True
        self._honour()
        for dates in (True, False):
            for relation in RELATIONS.values():
                if relation.dates == dates and relation.name not in ("spouse", "capital", "highest"):
                    self._link(relation)
        self._marry()
        self._crown()
        self._keep_titles()

    def other(self, kind: str, entity: Entity, rng: random.Random) -> Entity:
        """Return an entity of `kind` that is neither `entity` nor in a fact about it."""
        related = {id(entity), *(id(tail) for tail in entity.facts.values())}
        while True:
            candidate = self._often_famous(kind, rng)
            if id(candidate) not in related:
                return candidate

    def _often_famous(self, kind: str, rng: random.Random) -> Entity:
        return rng.choice(self._famous[kind] if rng.random() < _TO_FAMOUS else self.of_kind[kind])

    def _make(self, kind: EntityKind, book: NameBook, names: range) -> list[Entity]:
        rng = self._rng
        splits = [
            s for s, n in zip(SPLITS, cut(len(names), list(SPLIT_SHARES.values())), strict=True) for _ in range(n)
        ]
        rng.shuffle(splits)
        roles = [r for r, n in zip(ROLES, cut(len(names), [r.share for r in ROLES]), strict=True) for _ in range(n)]
        rng.shuffle(roles)
        entities = []
        for number, split, role in zip(names, splits, roles, strict=True):
            attributes = {name: rng.choice(values) for name, values in kind.attributes.items()}
            if kind.name == "person":
                entities.append(self._person(kind, book, number, split, role, attributes))
            else:
                attributes |= {"they": "it", "their": "its"}
                entities.append(Entity(kind, book.name(number), split, attributes, rng.randint(*kind.years)))
        return entities

    def _person(
        self, kind: EntityKind, book: NameBook, number: int, split: Split, role: Role, attributes: dict[str, str]
    ) -> Entity:
        surname, turn, start = book.deal(number)
        quartet, member = divmod(turn, len(_FAMILY))
        place = 3 * quartet + _FAMILY[member][0]
        entry, they, their = self._given[(start + place) % len(self._given)]
        given_name, _, nick = entry.partition(":")
        # Each time all given names are used, a surname gets two further initials.
        initials = 2 * (place // len(self._given)) + _FAMILY[member][1]
        initial = f"{INITIALS[(start + initials) % len(INITIALS)]}. " if initials else ""
        full = f"{given_name} {initial}{surname}"
        nicknamed = f"{nick or given_name} {initial}{surname}"
        aliases = [surname, nicknamed]
        if role.honorific:
            aliases.append(f"{role.honorific} {surname}")
        aliases = [alias for alias in dict.fromkeys(aliases) if alias != full]
        born = self._rng.randint(*role.born)
        attributes |= {
            "they": they,
            "their": their,
            "surname": surname,
            "occupation": self._rng.choice(role.occupations),
            "death": str(min(_LAST_YEAR, born + self._rng.randint(48, 91))),
        }
        if nick:
            attributes["nick"] = nicknamed
        return Entity(kind, Name(full, tuple(aliases), (full,), surname), split, attributes, born, role.name)

    def _share_names(self) -> None:
        """Let some persons share a name, up to three of different occupations, which then distinguish them."""
        people = self.of_kind["person"]
        bearers: dict[str, list[Entity]] = {person.name.canonical: [person] for person in people}
        for person in self._rng.sample(people, round(len(people) * _HOMONYMS)):
            others = bearers[self._rng.choice(people).name.canonical]
            same_pronoun = others[0].attributes["they"] == person.attributes["they"]
            distinct = all(other.attributes["occupation"] != person.attributes["occupation"] for other in others)
            if len(others) < 3 and same_pronoun and distinct and len(bearers[person.name.canonical]) == 1:
                del bearers[person.name.canonical]
                others.append(person)
                person.name = others[0].name
                person.attributes["surname"] = others[0].attributes["surname"]
        for others in bearers.values():
            for person in others if len(others) > 1 else ():
                # An honorific or a nickname would identify one of them.
                plain = tuple(alias for alias in person.name.aliases if alias == person.name.word)
                person.name = Name(person.name.canonical, plain, person.name.forms, person.name.word)
                person.attributes.pop("nick", None)
                person.shared = True

    def _honour(self) -> None:
        """Name some things after persons and cities, mostly after famous ones."""
        words_taken: set[str] = set()
        for entity in self.entities:
            if not entity.kind.eponyms or self._rng.random() > _EPONYMS:
                continue
            pattern = self._rng.choice(entity.kind.eponyms)
            kind = "person" if "{person}" in pattern else "city"
            honoured = self._rng.choice(self._famous[kind] if self._rng.random() < 0.5 else self.of_kind[kind])
            name = from_pattern(pattern, honoured.name.word, {kind: honoured.name.canonical})
            # A city of one word would be ambiguous: something in another block may be named after the word itself.
            if " " in honoured.name.canonical and not honoured.shared and name.canonical not in words_taken:
                entity.name = name
                words_taken.add(name.canonical)

    def _link(self, relation: Relation) -> None:
        for head in self.of_kind[relation.head]:
            if relation.tail == YEAR:
                head.facts[relation.name] = head.year
            elif relation.tail == NUMBER:
                head.facts[relation.name] = self._rng.randint(*relation.measure[:2])
            else:
                self._link_entity(relation, head)

    def _link_entity(self, relation: Relation, head: Entity) -> None:
        fitting = [tail for tail in self.of_kind[relation.tail] if _fits(relation, head, tail)]
        famous = [tail for tail in fitting if tail.famous]
        if famous and self._rng.random() < _LINK_TO_FAMOUS:
            fitting = famous
        near = [tail for tail in fitting if tail.split == head.split]
        if near and self._rng.random() < _LINK_WITHIN_SPLIT:
            fitting = near
        if not fitting:
            return
        tail = head.facts[relation.name] = self._rng.choice(fitting)
        if relation.dates and relation.gap:
            minimum, maximum = relation.gap
            head.year = tail.year + self._rng.randint(minimum, min(maximum, _LAST_YEAR - tail.year))

    def _marry(self) -> None:
        """Pair off persons of about the same age, so that 'spouse' holds both ways."""
        single = sorted(self.of_kind["person"], key=lambda person: (SPLITS.index(person.split), person.year))
        while len(single) > 1:
            person = single.pop()
            for other in single[-4:]:
                if other.attributes["they"] != person.attributes["they"] and abs(other.year - person.year) < 15:
                    person.facts["spouse"], other.facts["spouse"] = other, person
                    single.remove(other)
                    break

    def _crown(self) -> None:
        """Choose each country's capital and highest mountain among its own."""
        for country in self.of_kind["country"]:
            cities = [city for city in self.of_kind["city"] if city.facts["city_country"] is country]
            mountains = [peak for peak in self.of_kind["mountain"] if peak.facts["mountain_country"] is country]
            if cities:
                country.facts["capital"] = self._rng.choice(cities)
            if mountains:
                country.facts["highest"] = max(mountains, key=lambda peak: int(str(peak.facts["height"])))

    def _keep_titles(self) -> None:
        """Give some films the title of their novel, and some albums the name of their band."""
        for relation, chance in _TITLE_KEPT.items():
            for work in self.of_kind[RELATIONS[relation].head]:
                origin = work.facts.get(relation)
                if isinstance(origin, Entity) and not origin.shared and self._rng.random() < chance:
                    work.name = origin.name
                    work.shared = origin.shared = True


def _fits(relation: Relation, head: Entity, tail: Entity) -> bool:
    if tail is head or (relation.roles and tail.role not in relation.roles):
        return False
    if relation.gap is None or relation.dates:
        return True
    minimum, maximum = relation.gap
    return minimum <= head.year - tail.year <= maximum


def facts_to_tell(entity: Entity) -> list[Relation]:
    """Return the relations for which `entity` has a tail."""
    return [relation for relation in relations_of(entity.kind.name) if relation.name in entity.facts]
