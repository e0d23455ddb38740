"""Finds what can be asked about one split of a block: chains of stated facts, and pairs of facts to compare."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations

from exsearch.world.block import Block
from exsearch.world.catalogue import RELATIONS
from exsearch.world.entity import Entity, Fact, Split

Chain = tuple[Fact, ...]
"""Facts, each about the tail of the one before."""

_WORKS = ("film", "novel", "album", "ship", "museum")
"""Kinds with one passage per entity, so that one passage states both facts of an intersection."""
_PAIRS = 400
"""Number of comparisons drawn per block before the selection; all pairs would be many thousands."""


@dataclass(frozen=True)
class Intersection:
    """The only entity with two facts; the tail of one fact, or of both, must be found first."""

    first: Fact
    second: Fact
    find_first: Fact | None
    """Leads to the tail of `first`; None if the question names it."""
    find_second: Fact


@dataclass(frozen=True)
class EntityPair:
    """Two chains that end in a year or a measure of two entities of one kind."""

    a: Chain
    b: Chain


def stated_facts(block: Block, split: Split) -> list[Fact]:
    """Return the facts whose subject belongs to `split` and which a passage states."""
    return [
        Fact(entity, RELATIONS[name]) for entity in block.entities if entity.split == split for name in entity.stated_in
    ]


class Finder:
    """What can be asked about one split of a block."""

    def __init__(
        self, block: Block, split: Split, rng: random.Random, relations: Collection[str] | None = None
    ) -> None:
        """Collect the facts the split may use, all or those of some relations."""
        self._block, self._rng = block, rng
        facts = stated_facts(block, split)
        self._facts = [fact for fact in facts if relations is None or fact.relation.name in relations]
        self._about: dict[Entity, list[Fact]] = {}
        for fact in self._facts:
            self._about.setdefault(fact.head, []).append(fact)

    def chains(self, hops: int) -> list[Chain]:
        """Return all chains of `hops` facts that use no entity and no relation twice."""
        chains: list[Chain] = [(fact,) for fact in self._facts]
        for _ in range(hops - 1):
            chains = [longer for chain in chains for longer in self._extensions(chain)]
        return chains

    def _extensions(self, chain: Chain) -> Iterator[Chain]:
        if chain[-1].relation.literal:
            return
        used = {fact.relation.name for fact in chain}
        visited = {fact.head for fact in chain}
        for fact in self._about.get(chain[-1].target, []):
            if fact.relation.name not in used and fact.tail not in visited:
                yield (*chain, fact)

    def intersections(self) -> list[Intersection]:
        """Return intersections that exactly one entity of the world satisfies."""
        leads: dict[Entity, list[Fact]] = {}
        for fact in self._facts:
            if not fact.relation.literal:
                leads.setdefault(fact.target, []).append(fact)
        intersections: list[Intersection] = []
        for work in (entity for entity in self._about if entity.kind.name in _WORKS):
            facts = [fact for fact in self._about[work] if fact.relation.participle]
            for pair in combinations(facts, 2):
                for first, second in (pair, pair[::-1]):
                    intersections.extend(self._intersections_of(work, first, second, leads))
        return intersections

    def _intersections_of(
        self, work: Entity, first: Fact, second: Fact, leads: dict[Entity, list[Fact]]
    ) -> Iterator[Intersection]:
        if len(self._satisfying(first, second)) != 1 or first.tail is second.tail:
            return
        to_first = [fact for fact in leads.get(first.target, []) if fact.head is not work]
        to_second = [fact for fact in leads.get(second.target, []) if fact.head is not work]
        if not to_second:
            return
        # One constraint must leave several candidates, or the other one would not be needed.
        if len(self._satisfying(first)) > 1:
            yield Intersection(first, second, None, self._rng.choice(to_second))
        if to_first:
            one, two = self._rng.choice(to_first), self._rng.choice(to_second)
            if one.head is not two.head:
                yield Intersection(first, second, one, two)

    def _satisfying(self, *facts: Fact) -> list[Entity]:
        """Return the entities of the block that have all `facts`, stated or not; no link leaves a block."""
        return [
            entity
            for entity in self._block.of_kind[facts[0].head.kind.name]
            if all(entity.facts.get(fact.relation.name) is fact.tail for fact in facts)
        ]

    def comparisons(self) -> list[EntityPair]:
        """Return pairs of facts of one relation with different values."""
        ends: list[Chain] = [(fact,) for fact in self._facts if fact.relation.comparisons]
        return self._pairs(ends)

    def bridge_comparisons(self) -> list[EntityPair]:
        """Return pairs of two-fact chains that end in different values of one relation."""
        return self._pairs([chain for chain in self.chains(2) if chain[-1].relation.comparisons])

    def _pairs(self, ends: list[Chain]) -> list[EntityPair]:
        by_relation: dict[str, list[Chain]] = {}
        for chain in ends:
            by_relation.setdefault(chain[-1].relation.name, []).append(chain)
        groups = [chains for chains in by_relation.values() if len(chains) > 1]
        pairs = []
        for _ in range(_PAIRS if groups else 0):
            a, b = self._rng.sample(self._rng.choice(groups), 2)
            if _comparable(a, b):
                pairs.append(EntityPair(a, b))
        return pairs


def _comparable(a: Chain, b: Chain) -> bool:
    one, two = a[-1].head, b[-1].head
    if one.name.word == two.name.word or a[-1].value == b[-1].value:
        return False
    return not {fact.head for fact in a} & {fact.head for fact in b}
