"""What the model did on one question: its steps, its answer, and the exact tokens of both."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Protocol, cast

import msgspec

from exsearch.core.jsonl import read_jsonl
from exsearch.corpus.passage import Hit

FOLDED = 1_000_000
"""Branch n of sample k is drawn with the seed of sample k + n * FOLDED, which is its number in earlier files."""
Number = tuple[int, int]
"""Sample and branch of a trajectory, which identify it among those of its question."""


class _Named(Protocol):
    """Attributes of a record of one trajectory."""

    @property
    def question_id(self) -> str: ...
    @property
    def sample(self) -> int: ...
    @property
    def branch(self) -> int: ...
    @property
    def name(self) -> str: ...


class Numbered(msgspec.Struct, frozen=True):
    """A record of one trajectory, identified by its question, sample and branch.

    In files of earlier versions the branch is folded into the sample; reading unfolds it.
    """

    def __post_init__(self) -> None:
        """Unfold the number in a record of an earlier version."""
        number = cast(_Named, self).sample
        if number >= FOLDED:
            branch, sample = divmod(number, FOLDED)
            msgspec.structs.force_setattr(self, "sample", sample)
            msgspec.structs.force_setattr(self, "branch", branch)

    @property
    def number(self: _Named) -> Number:
        """Sample and branch of its trajectory."""
        return self.sample, self.branch

    @property
    def name(self: _Named) -> str:
        """Its name among those of its question: `SAMPLE`, or `SAMPLE.BRANCH`."""
        return f"{self.sample}.{self.branch}" if self.branch else str(self.sample)

    @property
    def label(self: _Named) -> str:
        """Its name in messages: `QUESTION/SAMPLE`, or `QUESTION/SAMPLE.BRANCH`."""
        return f"{self.question_id}/{self.name}"


class StopReason(StrEnum):
    """Why a trajectory ended. Only `answered` trajectories have an answer, a score and a weight."""

    ANSWERED = "answered"
    MAX_STEPS = "max_steps"
    """The model asked for another search when its budget of searches was used up."""
    CONTEXT_FULL = "context_full"
    """The next turn does not fit into the context, even with its passages truncated."""
    MALFORMED = "malformed"
    """The model's turn does not follow the grammar, or did not end within its token budget."""
    RETRIEVAL_FAILED = "retrieval_failed"
    ENGINE_FAILED = "engine_failed"


class Cost(msgspec.Struct, frozen=True):
    """Cost of a step or a trajectory: seconds of waiting for each part, and tokens.

    The only field of a trajectory that is not reproducible: it depends on load.
    """

    model_seconds: float = 0.0
    search_seconds: float = 0.0
    queue_seconds: float = 0.0
    """The part of the model's seconds before the engine started on the request."""
    prefilled_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the sum of both."""
        mine, its = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Cost(*(round(a + b, 5) for a, b in zip(mine, its, strict=True)))


class Step(msgspec.Struct, frozen=True):
    """One search: sub-query, passages, those of them that the model selected, and the evidence recorded from them."""

    query: str
    hits: list[Hit]
    evidence: str | None
    """None until the model's next turn has recorded it; so None in the last step of a trajectory that was cut off."""
    cost: Cost = Cost()
    """Cost of the turn that wrote the query, and of the search."""
    answer_logprob: float | None = None
    """log p(y | x, the steps up to this one with its evidence), in nats, if the rollout scored steps."""
    selected: list[int] | None = None
    """Ranks of the hits that the model selected, in the order that it named them; None in grammars without selection.
    """


class AliasScore(msgspec.Struct, frozen=True, omit_defaults=True):
    """Log-probability of one spelling of an accepted answer after a finished trajectory z, in nats.

    A spelling is a sequence of tokens, including the end of the answer. The spellings of a trajectory differ, and none
    is a prefix of another, so their probabilities add up.
    """

    alias: str
    """The gold answer, spelled as the tokenizer does; for the model's own spelling, the text that it wrote."""
    logprob: float
    """Sum over the tokens, including the one that ends the answer."""
    tokens: int
    """Number of tokens in that sum."""
    said: bool = False
    """Whether this is the model's own answer, which is right and spelled differently from all aliases."""


class Trajectory(Numbered, frozen=True):
    """One attempt at one question, one JSON line of a journal.

    `token_ids`, `loss_mask` and `logprobs` are parallel, of length T: prompts, passages and template tokens have
    mask 0 and log-prob 0; the model's own tokens have mask 1 and their log-prob at temperature 1. Training uses
    these ids, never re-tokenised text.

    >>> trajectory = agent.answer("Who founded the Marlow Observatory?")
    >>> trajectory.stop_reason, trajectory.answer, len(trajectory.steps)
    (<StopReason.ANSWERED: 'answered'>, 'Ada Quill', 1)
    """

    question_id: str
    sample: int
    """From 0 to K - 1; a branch has that of the trajectory that it branches off."""
    steps: list[Step]
    answer: str | None
    stop_reason: StopReason
    token_ids: list[int]
    loss_mask: list[int]
    logprobs: list[float]
    answer_start: int | None
    """Index of the answer's first token: token_ids[:answer_start] is the context that p(y | x, z) conditions on."""
    seed: int
    model_fingerprint: str
    index_fingerprint: str
    alias_scores: list[AliasScore] = []
    """Scores at the end of the rollout, computed while the prefix is in the engine's cache, if the rollout scores
    answers: of each gold alias that fits into the context, and of the model's own answer if it is right and spelled
    differently."""
    shortened_passages: int = 0
    """Number of passages truncated to fit the token budget."""
    stop_detail: str | None = None
    """The error, for `retrieval_failed` and `engine_failed`."""
    cost: Cost = Cost()
    exact: bool = True
    """False if the engine returned text, so that token ids or log-probs are not its own: not to be trained on."""
    scored: bool = True
    """False if the engine returned no log-probs; those of the model's own tokens are then also 0."""
    share: float = 1.0
    """One over the number of continuations drawn where this one branches off: its share of a sample."""
    opening_logprob: float | None = None
    """log p(y | x) before any evidence, in nats, if the rollout scored the opening."""
    grammar: str = "exsearch"
    """Name of its grammar."""
    branch: int = 0
    """0 for the sample itself, n for its n-th branch."""

    @property
    def prompt(self) -> list[int]:
        """The tokens before the model's first; all tokens if it has written none."""
        return self.token_ids[: self.loss_mask.index(1) if 1 in self.loss_mask else None]

    @property
    def failed(self) -> bool:
        """Whether the retriever or the engine failed, which says nothing about the model: worth another try."""
        return self.stop_reason in (StopReason.RETRIEVAL_FAILED, StopReason.ENGINE_FAILED)


def read_trajectories(path: str | Path) -> list[Trajectory]:
    """Read the trajectories of a journal, such as `RUN/iter-1/trajectories.jsonl`. Raises UsageError for another file.

    >>> [each.answer for each in xs.read_trajectories("work/rollouts.jsonl")]
    ['Ada Quill', 'Ada Quill']
    """
    return list(read_jsonl(Path(path), Trajectory))


def answer_logprob(scores: list[AliasScore], alias: str) -> float:
    """Return log p(y | x, z) over the spellings: their log-sum-exp (`sum`), or the highest (`best`)."""
    best = max(score.logprob for score in scores)
    if alias == "best":
        return best
    # Journals of earlier versions name an alias twice where the question does; that is one event, not two.
    distinct = {(score.alias, score.said): score.logprob for score in scores}
    return best + math.log(sum(math.exp(value - best) for value in distinct.values()))
