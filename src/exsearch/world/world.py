"""A synthetic encyclopaedia of any size and its multi-hop questions, fixed by a seed."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import msgspec

from exsearch.core.errors import UsageError, nearest
from exsearch.core.jsonl import write_jsonl
from exsearch.core.progress import Progress, progress
from exsearch.corpus.passage import Passage
from exsearch.questions.question import Question
from exsearch.world.block import PERSON_VARIANTS, SPLIT_SHARES, Block, counts
from exsearch.world.catalogue import KINDS, RELATIONS
from exsearch.world.entity import SPLITS, Split
from exsearch.world.names import NameBook
from exsearch.world.prose import write_passages
from exsearch.world.questions import MIX, QUESTIONS_PER_PASSAGE, write_questions_of

MIN_PASSAGES = 200
BLOCK_PASSAGES = 400
_WINDOW = 8
"""Number of blocks whose questions are mixed with each other."""


class World:
    """The world of a seed: exactly `size` passages, and questions that only they can answer.

    Worlds whose seeds differ modulo 100 share no title and no alias. Passages and questions are generated block by
    block, in memory that does not grow with the world. A fact, which is a pair of a subject and a relation, belongs to
    the split of its subject, and a question uses only facts of its own split; so no fact and no gold passage is in two
    splits.

    >>> world = xs.World(seed=1, passages=400)
    >>> len(list(world.passages()))
    400
    >>> [question] = world.questions("test", 1)
    >>> question.id
    'w1-test-000000'
    """

    def __init__(self, seed: int, passages: int) -> None:
        """Describe the world; nothing is generated until it is needed."""
        if seed < 0:
            raise UsageError(f"seed {seed}: a world's seed must be 0 or more")
        if passages < MIN_PASSAGES:
            raise UsageError(f"{passages} passages: a world needs at least {MIN_PASSAGES}")
        self.seed, self.size = seed, passages
        self._blocks = max(1, round(passages / BLOCK_PASSAGES))
        if not all(book.suffices for book in self._books.values()):
            maximum = min(book.capacity // self._room[kind] for kind, book in self._books.items()) * BLOCK_PASSAGES
            raise UsageError(f"{passages} passages: there are only names for about {maximum // 1000}000")

    def __repr__(self) -> str:
        """Return the call that makes the world."""
        return f"World(seed={self.seed}, passages={self.size})"

    def passages(self) -> Iterator[Passage]:
        """Yield the passages, block by block; ids are `w<seed>-<number>`."""
        for number in range(self._blocks):
            yield from self._block(number)[1]

    def questions(
        self,
        split: Split,
        limit: int | None = None,
        hops: Sequence[int] | None = None,
        relations: Collection[str] | None = None,
    ) -> Iterator[Question]:
        """Yield questions of a split, mixed in type and hops.

        `hops` selects questions with these numbers of hops; `relations` those about only these relations, which makes
        an easier world. A question's id, such as `w7-train-000012`, depends on neither `limit` nor `hops`.
        """
        if split not in SPLITS:
            raise UsageError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
        if hops is not None and not set(hops) <= {1, 2, 3, 4}:
            raise UsageError(f"hops {list(hops)}: questions have 1 to 4 hops")
        for name in relations or ():
            if name not in RELATIONS:
                raise UsageError(f"no relation {name!r} in the world{nearest(name, list(RELATIONS))}")
        if limit is not None and limit < 0:
            raise UsageError(f"limit {limit}: must be 0 or more")
        selected = (question for question in self._numbered(split, relations) if hops is None or question.hops in hops)
        return islice(selected, limit)

    def most_questions(self, split: Split) -> int:
        """Return an upper bound of the number of questions of a split, which it nearly reaches."""
        rounding = len(MIX) * self._blocks
        return round(self.size * SPLIT_SHARES[split] * QUESTIONS_PER_PASSAGE) + rounding

    def _numbered(self, split: Split, relations: Collection[str] | None) -> Iterator[Question]:
        for number, question in enumerate(self._mixed(split, relations)):
            yield msgspec.structs.replace(question, id=f"w{self.seed}-{split}-{number:06}")

    def _mixed(self, split: Split, relations: Collection[str] | None) -> Iterator[Question]:
        for start in range(0, self._blocks, _WINDOW):
            window: list[Question] = []
            for number in range(start, min(start + _WINDOW, self._blocks)):
                rng = random.Random(f"questions/{self.seed}/{split}/{number}")
                window.extend(write_questions_of(self._block(number)[0], split, rng, relations))
            random.Random(f"mix/{self.seed}/{split}/{start}").shuffle(window)
            yield from window

    def _block(self, number: int) -> tuple[Block, list[Passage]]:
        first, end = (self.size * n // self._blocks for n in (number, number + 1))
        block = Block(self.seed, number, end - first, self._books, self._room)
        rng = random.Random(f"prose/{self.seed}/{number}")
        return block, write_passages(block, first, f"w{self.seed}-", rng)

    @cached_property
    def _room(self) -> dict[str, int]:
        """Maximum number of entities of each kind in a block."""
        sizes = {self.size // self._blocks, -(-self.size // self._blocks)}
        return {kind: max(counts(size)[kind] for size in sizes) for kind in KINDS}

    @cached_property
    def _books(self) -> dict[str, NameBook]:
        return {
            kind.name: NameBook(
                kind,
                self.seed,
                self._room[kind.name] * self._blocks,
                len(kind.patterns) if kind.patterns else PERSON_VARIANTS,
            )
            for kind in KINDS.values()
        }


def write_questions(world: World, folder: Path, limits: Mapping[Split, int | None]) -> dict[Split, int]:
    """Write `<split>.jsonl` into `folder` for each split of `limits`; return how many questions each has.

    A limit of None writes all questions.
    """
    counts: dict[Split, int] = {}
    for split, limit in limits.items():
        total = world.most_questions(split) if limit is None else min(limit, world.most_questions(split))
        with progress(f"{split} questions", total) as bar:
            counts[split] = write_jsonl(folder / f"{split}.jsonl", _counted(world.questions(split, limit), bar))
    return counts


def _counted(questions: Iterator[Question], bar: Progress) -> Iterator[Question]:
    for question in questions:
        bar.advance()
        yield question
