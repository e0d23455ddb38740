"""An entity of the world: its names, its attributes and the facts about it."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from exsearch.world.names import Name
from exsearch.world.schema import EntityKind, Relation

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(eq=False)
class Entity:
    """An entity while its block is made; compared by identity."""

    kind: EntityKind
    name: Name
    split: Split
    """The only split whose questions may use facts with this entity as subject."""
    attributes: dict[str, str]
    """What templates may say besides facts, pronouns included."""
    year: int = 0
    role: str = ""
    shared: bool = False
    """Whether another entity of the block has the same canonical name."""
    famous: bool = False
    """Whether it is mentioned, honoured and related to more often than others."""
    facts: "dict[str, Entity | int]" = field(default_factory=dict)
    """Tail by relation name."""
    stated_in: dict[str, str] = field(default_factory=dict)
    """Id of the passage that states the fact, by relation name. Questions use only facts that a passage states."""

    @property
    def title(self) -> str:
        """The title of its passages, unique in the world."""
        if not self.shared:
            return self.name.canonical
        return f"{self.name.canonical} ({self.attributes.get('occupation', self.kind.name)})"

    @property
    def mention(self) -> str:
        """Words that name it and nothing else in the world, suitable for running text."""
        return self.described if self.shared else self.name.forms[0]

    @property
    def described(self) -> str:
        """Its name with a word on what it is, if its kind has such a form."""
        if not self.kind.mention:
            return self.name.forms[0]
        return self.kind.mention.format(name=self.name.canonical, **self.attributes)


@dataclass(frozen=True, eq=False)
class Fact:
    """One statement of the world: head, relation, tail."""

    head: Entity
    relation: Relation

    @property
    def tail(self) -> "Entity | int":
        """The object of the relation."""
        return self.head.facts[self.relation.name]

    @property
    def target(self) -> Entity:
        """The tail of a relation between entities."""
        tail = self.tail
        if isinstance(tail, int):
            raise TypeError(f"{self.relation.name} leads to a number")
        return tail

    @property
    def value(self) -> int:
        """The tail of a relation to a year or a number."""
        tail = self.tail
        if not isinstance(tail, int):
            raise TypeError(f"{self.relation.name} leads to an entity")
        return tail

    @property
    def passage(self) -> str:
        """Id of the passage that states it."""
        return self.head.stated_in[self.relation.name]

    @property
    def answers(self) -> list[str]:
        """All ways to write the tail, the canonical one first."""
        if isinstance(self.tail, Entity):
            return self.tail.name.all
        unit = self.relation.measure[2]
        if not unit:
            return [str(self.tail)]
        return [
            f"{self.tail} {unit}",
            str(self.tail),
            f"{self.tail} {unit[0]}{'m' if unit[0] == 'k' else ''}",
        ]

    @property
    def tail_words(self) -> str:
        """The tail in the form for running text."""
        return self.tail.mention if isinstance(self.tail, Entity) else self.answers[0]
