"""An episode: one trajectory in progress, and how each turn and each search changes it."""

from copy import copy
from dataclasses import dataclass, field

import msgspec

from exsearch.agent.budget import MIN_PASSAGE_TOKENS, Budget
from exsearch.agent.grammar import Action, MalformedError
from exsearch.agent.trajectory import FOLDED, AliasScore, Cost, Step, StopReason, Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.core.seeds import derive_seed
from exsearch.core.thoughts import without_thoughts
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Hit
from exsearch.engine.base import Completion
from exsearch.questions.question import Question


def seed_of(question: Question, sample: int, seed: int, branch: int = 0) -> int:
    """Return the seed of one trajectory of a run."""
    return derive_seed(seed, question.id, sample + branch * FOLDED)


@dataclass
class Episode:
    """The state of one trajectory in progress."""

    question: Question
    sample: int
    seed: int
    transcript: Transcript
    budget: Budget
    branch: int = 0
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None
    stop_reason: StopReason | None = None
    stop_detail: str | None = None
    pending_query: str | None = None
    turns: int = 0
    turn_cost: Cost = field(default_factory=Cost)
    """Cost of the last turn, until its step is stored."""
    cost: Cost = field(default_factory=Cost)
    exact: bool = True
    scored: bool = True
    """Whether the log-probs of all tokens of the model are known."""
    share: float = 1.0
    opening_logprob: float | None = None
    alias_scores: list[AliasScore] = field(default_factory=list)
    contexts_scored: dict[int, TokenIds] = field(default_factory=dict)
    """For each number of recorded facts, the tokens after which the gold answers were scored."""

    @classmethod
    def begin(cls, question: Question, sample: int, seed: int, transcript: Transcript, budget: Budget) -> "Episode":
        """Return the episode of a sample in a run with this seed. It has ended if the question leaves no room."""
        episode = cls(question, sample, seed_of(question, sample, seed), transcript, budget)
        if transcript.length_asked > budget.longest_opening:
            episode.stop(StopReason.CONTEXT_FULL)
        elif budget.last_search == 0:
            transcript.answer_next()
        else:
            episode.pending_query = transcript.first_query
        return episode

    @classmethod
    def at_end_of(cls, trajectory: Trajectory, question: Question, transcript: Transcript, budget: Budget) -> "Episode":
        """Return the state of an ended trajectory as an episode; `transcript` is the one that it started with."""
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
            budget,
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
        """Whether the model has another turn."""
        return self.stop_reason is None

    @property
    def answering(self) -> bool:
        """Whether the model's next turn is the answer."""
        return self.transcript.answer_start is not None

    def stop(self, reason: StopReason, detail: str | None = None) -> None:
        """End the episode. A failure removes the answer, since it can no longer be scored."""
        self.stop_reason, self.stop_detail, self.pending_query = reason, detail, None
        if reason != StopReason.ANSWERED:
            self.answer = None
            self.alias_scores = []

    def heard(self, completion: Completion, seconds: float) -> None:
        """Append the model's turn, which took `seconds`, and decide whether it searches, answers or ends."""
        self.turns += 1
        self.turn_cost = Cost(
            model_seconds=round(seconds, 5),
            queue_seconds=round(completion.queue_seconds, 5),
            prefilled_tokens=completion.prefilled,
            cached_tokens=completion.cached,
            generated_tokens=len(completion.token_ids) if completion.generated is None else completion.generated,
        )
        self.cost += self.turn_cost
        self.exact &= completion.exact
        self.scored &= completion.scored
        self.transcript.append_turn(completion.token_ids, completion.logprobs)
        try:
            self._read(completion.token_ids, cut=completion.finish != "stop")
        except MalformedError:
            self.stop(StopReason.MALFORMED)

    def _read(self, ids: TokenIds, cut: bool) -> None:
        """Parse a turn, which may have been truncated (`cut`) at its token limit. Raises MalformedError."""
        transcript, grammar, chat = self.transcript, self.transcript.grammar, self.transcript.chat
        if cut and not grammar.forgiving:
            raise MalformedError("it did not end within its tokens")
        turn = chat.decode(ids)
        text = turn if grammar.stops else without_thoughts(turn, chat.begins_thought)
        if text is None or (cut and self.answering and not text.strip()):
            raise MalformedError(turn)
        if self.answering:
            self.answer = grammar.read_answer(text)
            if text != turn:
                transcript.answered_after_thoughts(len(ids))
            self.stop(StopReason.ANSWERED)
            return
        action = grammar.parse(text, first=not self.steps)
        if self.steps:
            self._record(action, turn)
        if action.answer is not None:
            self.answer = action.answer
            transcript.answered_within(len(ids))
            self.stop(StopReason.ANSWERED)
        elif action.query is None:
            transcript.ask_answer()
        elif len(self.steps) == self.budget.max_steps:
            self.stop(StopReason.MAX_STEPS)
        else:
            self.pending_query = action.query

    def _record(self, action: Action, turn: str) -> None:
        """Note what the turn says about the last search. Raises MalformedError if it selects a passage without one."""
        step = self.steps[-1]
        if {*action.selected} - {hit.rank for hit in step.hits}:
            raise MalformedError(turn)
        selected = list(action.selected) if self.transcript.grammar.selects else None
        self.steps[-1] = msgspec.structs.replace(step, evidence=action.evidence, selected=selected)

    def asked_before(self, query: str) -> int:
        """Return how many of the searches so far had exactly this query."""
        return sum(step.query == query for step in self.steps)

    def searched(self, query: str, hits: list[Hit], seconds: float) -> None:
        """Append a search that took `seconds`, and show its passages, or end the episode if they do not fit."""
        tokens = self.budget.per_passage(self.transcript, len(self.steps))
        seconds = round(seconds, 5)
        self.cost += Cost(search_seconds=seconds)
        self.steps.append(Step(query, hits, None, msgspec.structs.replace(self.turn_cost, search_seconds=seconds)))
        self.pending_query = None
        if tokens < MIN_PASSAGE_TOKENS:
            self.stop(StopReason.CONTEXT_FULL)
        else:
            last = len(self.steps) == self.budget.last_search
            self.transcript.show(hits, tokens * self.budget.passages, ask=last)

    def own_answer_ids(self) -> TokenIds:
        """Return the tokens of the model's own answer if it is right and its tokens are known, else none."""
        transcript, right = self.transcript, self.question.accepts(self.answer or "")
        return transcript.token_ids[transcript.answer_start :] if right and self.exact and transcript.ended else []

    def likelihood(self, facts: int) -> float | None:
        """Return log p(y | x, the first `facts` facts), in nats; None if it was not scored."""
        return self.steps[facts - 1].answer_logprob if facts else self.opening_logprob

    def set_likelihood(self, facts: int, value: float) -> None:
        """Record it."""
        if facts:
            self.steps[facts - 1] = msgspec.structs.replace(self.steps[facts - 1], answer_logprob=value)
        else:
            self.opening_logprob = value

    def scored_step(self, facts: int, context: TokenIds, value: float) -> float:
        """Record log p(y | x, the first `facts` facts) after these tokens. Return its rise in nats, 0 if unknown."""
        self.contexts_scored[facts] = context
        before = self.likelihood(facts - 1) if facts else None
        self.set_likelihood(facts, value)
        return value - before if before is not None else 0.0

    def fork(self, continuations: int, seed: int) -> list["Episode"]:
        """Return further continuations from here, in a run with this seed; all together count as one sample."""
        self.share = 1 / continuations
        return [self._twin(number, seed) for number in range(1, continuations)]

    def _twin(self, branch: int, seed: int) -> "Episode":
        """Return an independent copy that continues from here."""
        twin = copy(self)
        twin.branch, twin.seed = branch, seed_of(self.question, self.sample, seed, branch)
        twin.transcript, twin.steps = self.transcript.copy(), list(self.steps)
        twin.contexts_scored = dict(self.contexts_scored)
        twin.cost = Cost()
        return twin

    def finish(self, model_fingerprint: str, index_fingerprint: str) -> Trajectory:
        """Return the finished trajectory."""
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
