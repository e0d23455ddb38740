"""Learning from the rollouts of several E-steps: stochastic-approximation EM.

One E-step sees few questions, and an M-step that learns from these only forgets what they do not contain. So the
objective of iteration t is

    Q_t = (1 - g) Q_(t-1) + g q_t        Q_1 = q_1

with q_t the mean, over the questions of E-step t, of sum_k w_k [ log p(z_k | x) + log p(y | x, z_k) ] (Delyon,
Lavielle, Moulines: Convergence of a stochastic approximation version of the EM algorithm, Annals of Statistics 27,
1999). With g = 1/t all E-steps count alike. Rollouts are not copied: an M-step reads the earlier journals again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Number, Trajectory
from exsearch.config import LearnConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.em.learn import weighted_examples
from exsearch.em.reweigh import Reweighed, ratios_worth
from exsearch.runs.weighted import Weighted
from exsearch.training.example import Example


@dataclass(frozen=True)
class Rollouts:
    """The rollouts of one E-step and their weights: as files and, once made or read, in memory."""

    name: str
    trajectories: Path
    weights: Path
    held: Sequence[Trajectory] | None = None
    """What the journal holds of them, in any order; None if it is to be read."""
    weighed: Sequence[Weighted] | None = None
    """The same of the weights."""

    def read_trajectories(self) -> Iterable[Trajectory]:
        """Return the trajectories."""
        return read_jsonl(self.trajectories, Trajectory) if self.held is None else self.held

    def read_weights(self) -> Sequence[Weighted]:
        """Return the weights."""
        return list(read_jsonl(self.weights, Reweighed)) if self.weighed is None else self.weighed


class Contribution(msgspec.Struct, frozen=True):
    """What one E-step contributes to an M-step."""

    name: str
    factor: float
    """Factor of its weights; 1 for the newest."""
    examples: int
    weight: float
    """Sum of its examples' weights, after multiplication."""
    ratios_worth: float | None = None
    """Mean effective sample size per question, from 1 to K, of the importance ratios, if the weights were recomputed
    under the present model; else None."""


def learned_from(
    rollouts: Sequence[Rollouts], chat: ChatFormat, config: LearnConfig
) -> tuple[list[Example], list[Contribution]]:
    """Return the examples of an M-step, and what each E-step contributes; the newest comes last.

    E-steps with a factor below `config.min_weight` are skipped. Trajectories of one question with equal tokens are
    learned once, with the sum of their weights. Raises UsageError, naming the file, for a journal that does not fit the
    model's tokenizer or the newest journal.
    """
    weights_by_source = [each.read_weights() for each in rollouts]
    factors = [1.0] * len(rollouts)
    if config.replay == "decay":
        factors = decayed([len({w.question_id for w in weights}) for weights in weights_by_source], config.replay_rate)
    checks = JournalChecks(chat)
    examples: dict[tuple[str, tuple[int, ...]], Example] = {}
    sources = []
    newest_first = list(zip(rollouts, weights_by_source, factors, strict=True))[::-1]
    for each, weights, factor in newest_first:
        if factor < config.min_weight:
            continue
        trajectories = checks.passing(each.trajectories, each.read_trajectories())
        try:
            new = weighted_examples(trajectories, weights, chat, config)
        except UsageError as error:
            raise UsageError(f"{each.trajectories} with {each.weights}: {error}") from None
        new = [replace(example, weight=factor * example.weight) for example in new]
        again = config.replay == "ratios" and each is not rollouts[-1]
        worth = ratios_worth([record for record in weights if isinstance(record, Reweighed)]) if again else None
        sources.append(Contribution(each.name, factor, len(new), sum(example.weight for example in new), worth))
        for example in new:
            key = (example.question_id, tuple(example.token_ids))
            if key in examples:
                example = replace(example, weight=examples[key].weight + example.weight)
            examples[key] = example
    return list(examples.values()), sources[::-1]


def decayed(counts: list[int], rate: float) -> list[float]:
    """Return the factors of each E-step's weights, the newest last and equal to 1.

    `counts` has the number of questions of each E-step; `rate` is g, and 0 means 1/t.
    """
    shares: list[float] = []
    for number in range(1, len(counts) + 1):
        share = 1.0 if number == 1 else rate or 1 / number
        shares = [(1 - share) * old for old in shares] + [share]
    newest = shares[-1] / counts[-1]
    return [share / count / newest for share, count in zip(shares, counts, strict=True)]


class JournalChecks:
    """Refuses, while they are read, journals that cannot be learned from together."""

    def __init__(self, chat: ChatFormat) -> None:
        """Check against the tokenizer of `chat`."""
        self._chat = chat
        self._grammar: tuple[str, Path] | None = None
        self._searches_first = False
        self._prompts: dict[str, tuple[list[int], Path]] = {}
        """First prompt and journal of each question."""
        self._seen: dict[tuple[str, Number, int, str], Path] = {}

    def passing(self, path: Path, trajectories: Iterable[Trajectory]) -> Iterator[Trajectory]:
        """Yield the trajectories of a journal. Raises UsageError at the first that does not fit the earlier ones."""
        for trajectory in trajectories:
            self._check_grammar(path, trajectory)
            self._check_tokens(path, trajectory)
            self._check_question(path, trajectory)
            identity = (trajectory.question_id, trajectory.number, trajectory.seed, trajectory.model_fingerprint)
            if self._seen.setdefault(identity, path) != path:
                raise UsageError(
                    f"{path}: trajectory {trajectory.label} is also in {self._seen[identity]}; name each journal once"
                )
            yield trajectory

    def _check_grammar(self, path: Path, trajectory: Trajectory) -> None:
        if self._grammar is None:
            self._grammar = trajectory.grammar, path
            grammar = self._chat.grammar_of(msgspec.structs.replace(self._chat.agent, grammar=trajectory.grammar))
            self._searches_first = grammar.first_query("?") is not None
        elif trajectory.grammar != self._grammar[0]:
            raise UsageError(
                f"{path}: uses the grammar {trajectory.grammar}, {self._grammar[1]} in {self._grammar[0]}; "
                "learn from journals of one grammar"
            )

    def _check_tokens(self, path: Path, trajectory: Trajectory) -> None:
        """Raise UsageError if the answer's tokens do not decode, with this tokenizer, to the recorded answer."""
        start, ids = trajectory.answer_start, trajectory.token_ids
        if start is None or not trajectory.exact or not trajectory.answer:
            return
        in_vocabulary = max(ids) < len(self._chat.tokenizer)
        if not in_vocabulary or _words(trajectory.answer) not in _words(self._chat.decode(ids[start:])):
            raise UsageError(
                f"{path}: trajectory {trajectory.label} is from another model: decoded with this one's "
                f"tokenizer, its tokens do not contain its answer, {trajectory.answer!r}"
            )

    def _check_question(self, path: Path, trajectory: Trajectory) -> None:
        """Raise UsageError if an id means another question in another journal."""
        if self._searches_first or 1 not in trajectory.loss_mask:
            return
        prompt, where = self._prompts.setdefault(trajectory.question_id, (trajectory.prompt, path))
        if trajectory.prompt != prompt:
            raise UsageError(
                f"{path}: question {trajectory.question_id!r} has another text than in {where}; learn from "
                "journals of one question file and one prompt"
            )


def _words(text: str) -> str:
    """Return a text with single blanks, since grammars may change the blanks of an answer."""
    return " ".join(text.split())
