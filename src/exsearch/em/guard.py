"""The guard on the marginal likelihood: a step is taken only if answers to held-out questions become no less likely.

EM's promise is about p(y | x) = E_z p(y | x, z), not about the objective of its M-step, which falls on held-out
trajectories with every step: it measures the distance from the model that sampled them. So the same held-out training
questions are answered afresh by the model before and after a step, greedily or by sampling, and the mean of
p(y | x, z), 0 for a trajectory without an answer, is compared, question by question.

The whole step is tried first, then a half and a quarter of it; the first under which the mean does not fall is taken,
and if it falls under each, the step is refused. Half of the questions are asked first: if the mean is lower than before
by more than 1.645 standard errors, the rest are not asked. Caffo, Jank, Jones (Ascent-based Monte Carlo
expectation-maximization, JRSS B 67, 2005) test the objective of the M-step so, and ask more after a step that fails.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from exsearch.agent.agents import Agents
from exsearch.agent.journal import Journals, first_samples
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import StopReason, Trajectory, answer_logprob
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.evaluation.bootstrap import figure
from exsearch.evaluation.evaluate import require_no_outage
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.metrics import exact_match, f1
from exsearch.evaluation.scores import Figure
from exsearch.questions.question import Question

PARTS = {1.0: "whole", 0.5: "half", 0.25: "quarter"}
"""Shares of a step that are tried, in this order, and their names."""
EARLY = 1.645
"""Standard errors; one in twenty steps that change nothing is refused by so many before all questions are asked."""


class Standing(msgspec.Struct, frozen=True):
    """How a model does on the guard's questions; lists have one value per question, in their order."""

    probability: list[float]
    """Mean p(y | x, z) over its trajectories, 0 for one without an answer."""
    em: list[float]
    f1: list[float]
    malformed: float
    """Share of the trajectories that ended as malformed."""

    @property
    def mean(self) -> float:
        """Return the mean of p(y | x, z)."""
        return statistics.fmean(self.probability)

    @property
    def merit(self) -> float:
        """Return what the best iteration is chosen by: the mean of F1 and p(y | x, z), two views of one thing."""
        return (statistics.fmean(self.f1) + self.mean) / 2


class Try(msgspec.Struct, frozen=True):
    """A part of a step, as tried."""

    share: float
    name: str
    """Of its folder among the guard's."""
    questions: int
    """On which it was tried: all, or those after which it was refused."""
    before: float
    """Mean p(y | x, z) on these, of the model before the step."""
    after: float
    difference: Figure
    malformed: float
    """Share of the trajectories."""
    taken: bool


class Decision(msgspec.Struct, frozen=True):
    """What became of the step of one iteration: the content of guard.json."""

    tries: list[Try]
    sentence: str

    @property
    def taken(self) -> Try | None:
        """Return the part that was taken; None if the step was refused."""
        return next((each for each in self.tries if each.taken), None)


class Guard:
    """Held-out questions, and what models made of them."""

    def __init__(
        self, questions: list[Question], folder: Path, draw: Draw, samples: int, agents_for: Callable[[Path], Agents]
    ) -> None:
        """Keep trajectories below `folder`; `samples` trajectories per question are drawn as `draw` says."""
        self.questions, self._folder = questions, folder
        self._draw, self._samples, self._agents_for = draw, samples, agents_for
        self._standings: dict[str, Standing] = {}
        """Those that were measured or read."""

    def standing(self, name: str, checkpoint: Path) -> Standing:
        """Return how a model does on all questions; what is on disk of it is not done again."""
        if name not in self._standings:
            path = self._standing_file(name)
            if path.exists():
                self._standings[name] = read_json(path, Standing)
            else:
                self._keep(name, self._measure(name, checkpoint, len(self.questions)))
        return self._standings[name]

    def _standing_file(self, name: str) -> Path:
        return self._folder / name / "standing.json"

    def _keep(self, name: str, standing: Standing) -> None:
        write_json(self._standing_file(name), standing)
        self._standings[name] = standing

    def decide(self, iteration: str, before: str, old: Path, part: Callable[[float], Path]) -> Decision:
        """Try a step, whole and in part; `before` names the model it starts from, and `part` makes a share of it."""
        start = self.standing(before, old)
        tries: list[Try] = []
        for share, name in PARTS.items():
            tries.append(self._try(f"{iteration}-{name}", share, start, part(share)))
            if tries[-1].taken:
                break
        return Decision(tries, sentence(iteration, tries))

    def _try(self, name: str, share: float, start: Standing, checkpoint: Path) -> Try:
        total = len(self.questions)
        for count in dict.fromkeys((math.ceil(total / 2), total)):
            found = self._measure(name, checkpoint, count)
            differences = [new - old for new, old in zip(found.probability, start.probability, strict=False)]
            verdict = judge(differences, total)
            if verdict is not None:
                break
        if count == total:
            self._keep(name, found)
        return Try(
            share=share,
            name=name,
            questions=count,
            before=round(statistics.fmean(start.probability[:count]), 5),
            after=round(found.mean, 5),
            difference=figure(differences),
            malformed=round(found.malformed, 5),
            taken=bool(verdict),
        )

    def _measure(self, name: str, checkpoint: Path, count: int) -> Standing:
        """Return how a model does on the first `count` questions. Raises UsageError if its engine does not score."""
        journal, questions = self._folder / name / TRAJECTORIES, self.questions[:count]
        agents = self._agents_for(checkpoint)
        with Journals(agents, {journal: questions}, self._draw, forget_failed=True) as journals:
            found = journals.roll_out(first_samples(self._samples), self._samples, f"guard {name}")[journal]
        require_no_outage(journal, [each for group in found for each in group], journals.failed_before(journal))
        return standing_of(questions, found)


def standing_of(questions: Sequence[Question], found: Sequence[Sequence[Trajectory]]) -> Standing:
    """Return how a model does by its trajectories of each question. Raises UsageError if no answer was scored."""
    every = [trajectory for group in found for trajectory in group]
    answered = [trajectory for trajectory in every if trajectory.stop_reason == StopReason.ANSWERED]
    if answered and not any(trajectory.alias_scores for trajectory in answered):
        raise UsageError("loop.guard needs an engine that scores gold answers; set loop.guard = 0 here")
    return Standing(
        probability=[statistics.fmean(_probability(each) for each in group) for group in found],
        em=[
            statistics.fmean(exact_match(each.answer or "", question.answers) for each in group)
            for question, group in zip(questions, found, strict=True)
        ],
        f1=[
            statistics.fmean(f1(each.answer or "", question.answers) for each in group)
            for question, group in zip(questions, found, strict=True)
        ],
        malformed=statistics.fmean(each.stop_reason == StopReason.MALFORMED for each in every),
    )


def _probability(trajectory: Trajectory) -> float:
    if trajectory.stop_reason != StopReason.ANSWERED or not trajectory.alias_scores:
        return 0.0
    return math.exp(answer_logprob(trajectory.alias_scores, "sum"))


def judge(differences: Sequence[float], total: int) -> bool | None:
    """Return whether a step is taken by what p(y | x, z) of each question rose; None if more questions must be asked.

    `total` is the number of questions that there are.
    """
    mean = statistics.fmean(differences)
    if len(differences) == total:
        return mean >= 0
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return False if mean + EARLY * error < 0 else None


def sentence(iteration: str, tries: Sequence[Try]) -> str:
    """Say what became of a step."""
    name, last = iteration.replace("-", " ").replace("iter", "iteration"), tries[-1]
    if not last.taken:
        falls = ", ".join(f"{each.before:.2f} -> {each.after:.2f} ({PARTS[each.share]})" for each in tries)
        return f"{name} was refused: p(answer) {falls}"
    what = {1.0: "was taken whole", 0.5: "was shortened by half", 0.25: "was shortened to a quarter"}[last.share]
    return f"{name} {what}: p(answer) {last.before:.2f} -> {last.after:.2f}"
