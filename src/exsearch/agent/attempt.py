"""One trajectory under way."""

from copy import copy
from dataclasses import dataclass, field

from exsearch.agent.trajectory import AliasScore, Cost, Step, StopReason, Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.data.question import Question


@dataclass
class Attempt:
    """What is known so far of one trajectory."""

    question: Question
    sample: int
    seed: int
    transcript: Transcript
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
    share: float = 1.0
    opening_logprob: float | None = None
    alias_scores: list[AliasScore] = field(default_factory=list)

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

    def branch(self, sample: int, seed: int) -> "Attempt":
        """Return an attempt of its own that goes on from here."""
        twin = copy(self)
        twin.sample, twin.seed = sample, seed
        twin.transcript, twin.steps = self.transcript.copy(), list(self.steps)
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
            share=self.share,
            opening_logprob=self.opening_logprob,
            grammar=transcript.grammar.name,
        )
