"""One trajectory under way."""

from copy import copy
from dataclasses import dataclass, field

import msgspec

from exsearch.agent.trajectory import AliasScore, Cost, Step, StopReason, Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.core.tokens import TokenIds
from exsearch.questions.question import Question


@dataclass
class Attempt:
    """What is known so far of one trajectory."""

    question: Question
    sample: int
    seed: int
    transcript: Transcript
    branch: int = 0
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None
    stop_reason: StopReason | None = None
    stop_detail: str | None = None
    pending_query: str | None = None
    turns: int = 0
    turn_cost: Cost = field(default_factory=Cost)
    """Of the last turn, until its step is there to take it."""
    cost: Cost = field(default_factory=Cost)
    exact: bool = True
    scored: bool = True
    """Whether the log-probs of all that the model said are known."""
    share: float = 1.0
    opening_logprob: float | None = None
    alias_scores: list[AliasScore] = field(default_factory=list)
    scored_behind: dict[int, TokenIds] = field(default_factory=dict)
    """By the number of recorded facts, the tokens behind which the gold answers were scored meanwhile."""

    @classmethod
    def at_end_of(cls, trajectory: Trajectory, question: Question, transcript: Transcript) -> "Attempt":
        """Return a trajectory as the attempt that it was at its end; `transcript` is that of its beginning."""
        transcript.token_ids = list(trajectory.token_ids)
        transcript.loss_mask = list(trajectory.loss_mask)
        transcript.logprobs = list(trajectory.logprobs)
        transcript.answer_start = trajectory.answer_start
        transcript.shortened_passages = trajectory.shortened_passages
        return cls(
            question,
            trajectory.sample,
            trajectory.seed,
            transcript,
            trajectory.branch,
            steps=list(trajectory.steps),
            answer=trajectory.answer,
            stop_reason=trajectory.stop_reason,
            stop_detail=trajectory.stop_detail,
            exact=trajectory.exact,
            share=trajectory.share,
            opening_logprob=trajectory.opening_logprob,
            alias_scores=list(trajectory.alias_scores),
        )

    @property
    def running(self) -> bool:
        """Whether the model still has a turn."""
        return self.stop_reason is None

    @property
    def answering(self) -> bool:
        """Whether the model's next turn is the answer."""
        return self.transcript.answer_start is not None

    def stop(self, reason: StopReason, detail: str | None = None) -> None:
        """End it; a failure takes the answer away, since it can no longer be scored."""
        self.stop_reason, self.stop_detail, self.pending_query = reason, detail, None
        if reason != StopReason.ANSWERED:
            self.answer = None
            self.alias_scores = []

    def said_answer(self) -> TokenIds:
        """Return the tokens of the model's own answer if it is right and they are known to be those, else none."""
        transcript, right = self.transcript, self.question.accepts(self.answer or "")
        return transcript.token_ids[transcript.answer_start :] if right and self.exact and transcript.ended else []

    def likelihood(self, facts: int) -> float | None:
        """Return log p(y | x, the first so many facts), in nats; None if it was not scored."""
        return self.steps[facts - 1].answer_logprob if facts else self.opening_logprob

    def set_likelihood(self, facts: int, value: float) -> None:
        """Take note of it."""
        if facts:
            self.steps[facts - 1] = msgspec.structs.replace(self.steps[facts - 1], answer_logprob=value)
        else:
            self.opening_logprob = value

    def fork(self, branch: int, seed: int) -> "Attempt":
        """Return an attempt of its own that goes on from here."""
        twin = copy(self)
        twin.branch, twin.seed = branch, seed
        twin.transcript, twin.steps = self.transcript.copy(), list(self.steps)
        twin.scored_behind = dict(self.scored_behind)
        twin.cost = Cost()
        return twin

    def finish(self, model_fingerprint: str, index_fingerprint: str) -> Trajectory:
        """Return the record of it."""
        assert self.stop_reason is not None
        transcript = self.transcript
        return Trajectory(
            question_id=self.question.id,
            sample=self.sample,
            steps=self.steps,
            answer=self.answer,
            stop_reason=self.stop_reason,
            token_ids=transcript.token_ids,
            loss_mask=transcript.loss_mask,
            logprobs=[round(value, 5) for value in transcript.logprobs],
            answer_start=transcript.answer_start if self.answer is not None else None,
            seed=self.seed,
            model_fingerprint=model_fingerprint,
            index_fingerprint=index_fingerprint,
            alias_scores=self.alias_scores,
            shortened_passages=transcript.shortened_passages,
            stop_detail=self.stop_detail,
            cost=self.cost,
            exact=self.exact,
            scored=self.scored,
            share=self.share,
            opening_logprob=self.opening_logprob,
            grammar=transcript.grammar.name,
            branch=self.branch,
        )
