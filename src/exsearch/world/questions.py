"""Writes the questions of a block, with their sub-questions, evidence and gold passages."""

import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache

from exsearch.questions.question import Question, SubQuestion
from exsearch.world.block import SPLIT_SHARES, Block
from exsearch.world.chains import Chain, EntityPair, Finder, Intersection
from exsearch.world.entity import Entity, Fact, Split
from exsearch.world.prose import sentence

MIX = {
    "single": 0.15,
    "bridge-2": 0.31,
    "bridge-3": 0.18,
    "bridge-4": 0.08,
    "intersection": 0.15,
    "comparison": 0.08,
    "bridge-comparison": 0.05,
}
"""Share of each sort of question. The number of a bridge is its number of hops."""
QUESTIONS_PER_PASSAGE = 1.5
"""Maximum number of questions per split, for each passage of the split's share of the block."""
_SAME_ANSWER = 1 / 40
"""Maximum share of a block's questions with the same answer; at least one question may have it."""
_DESCRIBED = 0.5
_WORD = re.compile(r"\w+")


def write_questions_of(
    block: Block, split: Split, rng: random.Random, relations: Collection[str] | None = None
) -> list[Question]:
    """Return the questions of one split of a block whose passages are written, mixed, with empty ids."""
    finder = Finder(block, split, rng, relations)
    wording = _Wording(rng)
    makers: dict[str, tuple[Sequence[object], Callable[..., Question | None]]] = {
        "single": (finder.chains(1), wording.chain),
        "bridge-2": (finder.chains(2), wording.chain),
        "bridge-3": (finder.chains(3), wording.chain),
        "bridge-4": (finder.chains(4), wording.chain),
        "intersection": (finder.intersections(), wording.intersection),
        "comparison": (finder.comparisons(), wording.comparison),
        "bridge-comparison": (finder.bridge_comparisons(), wording.comparison),
    }
    total = block.passages * SPLIT_SHARES[split] * QUESTIONS_PER_PASSAGE
    total = min(total, *(len(makers[sort][0]) / MIX[sort] for sort in ("single", "bridge-2")))
    maximum = max(1, round(total * _SAME_ANSWER))
    answered: Counter[str] = Counter()
    texts: set[str] = set()
    questions: list[Question] = []
    for sort, (plans, make) in makers.items():
        remaining = round(total * MIX[sort])
        for plan in rng.sample(plans, len(plans)):
            if remaining == 0:
                break
            question = make(plan)
            if question and answered[question.answers[0]] < maximum and question.text not in texts:
                answered[question.answers[0]] += 1
                texts.add(question.text)
                questions.append(question)
                remaining -= 1
    rng.shuffle(questions)
    return questions


def holds(text: str, name: str) -> bool:
    """Return whether `text` has `name` in it as whole words, whatever the case."""
    return _bare(name) in _bare(text)


@lru_cache(maxsize=4096)
def _bare(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.lower()))} "


class _Wording:
    """Turns plans into questions; returns None where the wording would give the answer away."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def chain(self, chain: Chain) -> Question | None:
        text = self._ask(chain[-1], self._phrase(chain[:-1], self._called(chain[0].head)))
        hidden = [fact.target for fact in chain[:-1]]
        subs = [self._sub(fact) for fact in chain]
        kind = "bridge" if len(chain) > 1 else "single"
        return _question(text, kind, chain[-1].answers, chain, subs, hidden)

    def intersection(self, plan: Intersection) -> Question | None:
        work, kind = plan.first.head, plan.first.head.kind.name
        leads = [fact for fact in (plan.find_first, plan.find_second) if fact]
        phrase = plan.first.tail_words
        if plan.find_first:
            phrase = self._phrase((plan.find_first,), self._called(plan.find_first.head))
        other = self._phrase((plan.find_second,), self._called(plan.find_second.head))
        text = self._which(kind, self._participle(plan.first, phrase), self._participle(plan.second, other))
        own = [self._participle(fact, fact.tail_words) for fact in (plan.first, plan.second)]
        last = SubQuestion(
            self._which(kind, *own),
            work.name.all,
            plan.first.passage,
            sentence(f"{work.mention} was {own[0]} and {own[1]}."),
        )
        subs = [*(self._sub(fact) for fact in leads), last]
        hidden = [fact.target for fact in leads]
        return _question(text, "intersection", work.name.all, [*leads, plan.first], subs, hidden)

    def comparison(self, pair: EntityPair) -> Question | None:
        chains, (a, b) = (pair.a, pair.b), (pair.a[-1], pair.b[-1])
        form = self._rng.choice(a.relation.comparisons)
        names = [self._phrase(chain[:-1], self._called(chain[0].head)) for chain in chains]
        winner = a.head if (a.value < b.value) == form.least else b.head
        facts = [*pair.a[:-1], *pair.b[:-1], a, b]
        subs = [self._sub(fact) for fact in facts]
        hidden = [fact.target for fact in facts[:-2]]
        kind = "bridge-comparison" if hidden else "comparison"
        text = sentence(form.text.format(a=names[0], b=names[1]))
        answers = [winner.name.canonical] if not hidden else winner.name.all
        return _question(text, kind, answers, facts, subs, hidden, names_answer=not hidden, more=winner.name.all)

    def _called(self, entity: Entity) -> str:
        return entity.described if entity.shared or self._rng.random() < _DESCRIBED else entity.mention

    def _ask(self, fact: Fact, subject: str) -> str:
        return sentence(self._rng.choice(fact.relation.asks).format(s=subject))

    def _phrase(self, chain: Iterable[Fact], start: str) -> str:
        for fact in chain:
            start = self._rng.choice(fact.relation.phrases).format(s=start)
        return start

    def _participle(self, fact: Fact, words: str) -> str:
        return fact.relation.participle.format(o=words)

    def _which(self, kind: str, one: str, two: str) -> str:
        forms = ("Which {k} was {a} and {b}?", "What is the {k} {a} and {b}?", "Name the {k} {a} and {b}.")
        return self._rng.choice(forms).format(k=kind, a=one, b=two)

    def _sub(self, fact: Fact) -> SubQuestion:
        text = self._ask(fact, self._called(fact.head))
        statement = self._rng.choice(fact.relation.plain)
        evidence = sentence(statement.format(s=fact.head.mention, o=fact.tail_words))
        return SubQuestion(text, _unnamed(fact.answers, text), fact.passage, evidence)


def _unnamed(answers: list[str], text: str) -> list[str]:
    """Keep the canonical answer and the aliases that `text` does not contain."""
    return [answers[0], *(alias for alias in answers[1:] if not holds(text, alias))]


def _question(
    text: str,
    kind: str,
    answers: list[str],
    facts: Iterable[Fact],
    subs: list[SubQuestion],
    hidden: list[Entity],
    names_answer: bool = False,
    more: Iterable[str] = (),
) -> Question | None:
    if any(holds(text, name) for entity in hidden for name in entity.name.all):
        return None
    if not names_answer and holds(text, answers[0]):
        return None
    if any(holds(sub.text, sub.answers[0]) for sub in subs):
        return None
    passages = list(dict.fromkeys(fact.passage for fact in facts))
    if len(passages) < len(subs):
        return None
    answers = list(dict.fromkeys([*answers, *more])) if names_answer else _unnamed(answers, text)
    return Question("", text, answers, kind, len(subs), passages, subs)
