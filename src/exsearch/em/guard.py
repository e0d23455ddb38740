"""The guard on the marginal likelihood: a step that makes held-out answers less likely is not taken.

EM guarantees that p(y | x) = E_z p(y | x, z) does not fall. It guarantees nothing about the M-step's objective on
held-out trajectories, which falls with every step, because it measures the distance from the model that sampled them.
So the model answers held-out training questions before and after a step, greedily or by sampling. The figure
compared, question by question, is the mean of p(y | x, z), with 0 for a trajectory without an answer.

The whole step is tried first, then a half and a quarter of it. The first under which the mean does not fall is taken;
if it falls under each, the step is refused. Half of the questions are tried first: if the mean is lower than before by
more than 1.645 standard errors, the other half is not tried. Caffo, Jank, Jones (Ascent-based Monte Carlo
expectation-maximization, JRSS B 67, 2005) test the M-step's objective in this way, and enlarge the sample after a step
that fails.
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
"""Shares of a step to try, in this order, and their names."""
EARLY = 1.645
"""Number of standard errors that refuses a step after half of the questions: one-sided 5%, so that one in twenty steps
that change nothing is refused early."""


class Standing(msgspec.Struct, frozen=True):
    """A model's figures on the guard's questions; each list has one value per question, in their order."""

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
        """Return the figure by which the best iteration is chosen: the average of mean F1 and mean p(y | x, z)."""
        return (statistics.fmean(self.f1) + self.mean) / 2


class Try(msgspec.Struct, frozen=True):
    """The result of trying one share of a step."""

    share: float
    name: str
    """Name of its folder in the guard's folder."""
    questions: int
    """Number of questions that it was tried on: all, or those after which it was refused."""
    before: float
    """Mean p(y | x, z) on these questions, of the model before the step."""
    after: float
    difference: Figure
    malformed: float
    """Share of the trajectories that ended as malformed."""
    taken: bool


class Decision(msgspec.Struct, frozen=True):
    """The decision on one iteration's step: the content of guard.json."""

    tries: list[Try]
    sentence: str

    @property
    def taken(self) -> Try | None:
        """Return the share that was taken; None if the step was refused."""
        return next((each for each in self.tries if each.taken), None)


class Guard:
    """Tries steps on held-out questions."""

    def __init__(
        self, questions: list[Question], folder: Path, draw: Draw, samples: int, agents_for: Callable[[Path], Agents]
    ) -> None:
        """Keep trajectories in `folder`; draw `samples` trajectories per question, in the way of `draw`."""
        self.questions, self._folder = questions, folder
        self._draw, self._samples, self._agents_for = draw, samples, agents_for
        self._standings: dict[str, Standing] = {}
        """Figures that were measured or read, by name."""

    def standing(self, name: str, checkpoint: Path) -> Standing:
        """Return a model's figures on all questions, read from disk if they are there."""
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
        """Try a step, whole and in part. `before` names the model it starts from; `part` makes the model of a share of
        it.
        """
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
            standing = self._measure(name, checkpoint, count)
            differences = [new - old for new, old in zip(standing.probability, start.probability, strict=False)]
            verdict = judge(differences, total)
            if verdict is not None:
                break
        if count == total:
            self._keep(name, standing)
        return Try(
            share=share,
            name=name,
            questions=count,
            before=round(statistics.fmean(start.probability[:count]), 5),
            after=round(standing.mean, 5),
            difference=figure(differences),
            malformed=round(standing.malformed, 5),
            taken=bool(verdict),
        )

    def _measure(self, name: str, checkpoint: Path, count: int) -> Standing:
        """Return figures on the first `count` questions. Raises UsageError if the engine cannot score answers."""
        journal, questions = self._folder / name / TRAJECTORIES, self.questions[:count]
        agents = self._agents_for(checkpoint)
        with Journals(agents, {journal: questions}, self._draw, drop_failed=True) as journals:
            groups = journals.roll_out(first_samples(self._samples), self._samples, f"guard {name}")[journal]
        require_no_outage(journal, [each for group in groups for each in group], journals.failed_before(journal))
        return standing_of(questions, groups)


def standing_of(questions: Sequence[Question], groups: Sequence[Sequence[Trajectory]]) -> Standing:
    """Return the figures for each question's trajectories. Raises UsageError if no answer was scored."""
    every = [trajectory for group in groups for trajectory in group]
    answered = [trajectory for trajectory in every if trajectory.stop_reason == StopReason.ANSWERED]
    if answered and not any(trajectory.alias_scores for trajectory in answered):
        raise UsageError("loop.guard needs an engine that scores gold answers; set loop.guard = 0 here")
    return Standing(
        probability=[statistics.fmean(_probability(each) for each in group) for group in groups],
        em=[
            statistics.fmean(exact_match(each.answer or "", question.answers) for each in group)
            for question, group in zip(questions, groups, strict=True)
        ],
        f1=[
            statistics.fmean(f1(each.answer or "", question.answers) for each in group)
            for question, group in zip(questions, groups, strict=True)
        ],
        malformed=statistics.fmean(each.stop_reason == StopReason.MALFORMED for each in every),
    )


def _probability(trajectory: Trajectory) -> float:
    if trajectory.stop_reason != StopReason.ANSWERED or not trajectory.alias_scores:
        return 0.0
    return math.exp(answer_logprob(trajectory.alias_scores, "sum"))


def judge(differences: Sequence[float], total: int) -> bool | None:
    """Return whether to take a step, by the rise of each question's p(y | x, z); None if more questions are needed.

    `total` is the number of all questions.
    """
    mean = statistics.fmean(differences)
    if len(differences) == total:
        return mean >= 0
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return False if mean + EARLY * error < 0 else None


def sentence(iteration: str, tries: Sequence[Try]) -> str:
    """Return a sentence on what became of a step."""
    name, last = iteration.replace("-", " ").replace("iter", "iteration"), tries[-1]
    if not last.taken:
        falls = ", ".join(f"{each.before:.2f} -> {each.after:.2f} ({PARTS[each.share]})" for each in tries)
        return f"{name} was refused: p(answer) {falls}"
    what = {1.0: "was taken whole", 0.5: "was shortened by half", 0.25: "was shortened to a quarter"}[last.share]
    return f"{name} {what}: p(answer) {last.before:.2f} -> {last.after:.2f}"
