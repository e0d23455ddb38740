"""Rollouts: many trajectories in flight, one batched model call and one batched search a round."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import ExSearchGrammar, MalformedError
from exsearch.agent.trajectory import AliasScore, Step, StopReason, Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig
from exsearch.data.question import Question
from exsearch.engine.base import Completion, Engine, EngineError, Sampling
from exsearch.engine.sampling import derive_seed
from exsearch.retrieval.base import Hit, RetrievalError, Retriever

MIN_PASSAGE_TOKENS = 16
"""A search whose passages would get fewer tokens each is not worth showing: the context is full."""


@dataclass
class Attempt:
    """One trajectory in flight."""

    question: Question
    sample: int
    seed: int
    transcript: Transcript
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None
    stop_reason: StopReason | None = None
    pending_query: str | None = None
    turns: int = 0
    turn_seconds: float = 0.0

    @property
    def running(self) -> bool:
        """Whether the model still has a turn."""
        return self.stop_reason is None

    @property
    def answering(self) -> bool:
        """Whether the model's next turn is the answer."""
        return self.transcript.answer_start is not None


class Agent:
    """A model, a retriever and the grammar between them."""

    def __init__(self, engine: Engine, retriever: Retriever, chat: ChatFormat, config: AgentConfig) -> None:
        """Put the parts together; the context is the smaller of the model's and the configured one."""
        self.engine, self.retriever, self.chat, self.config = engine, retriever, chat, config
        self.grammar = ExSearchGrammar()
        self.context = min(engine.context_size, config.context)

    def rollout(
        self,
        tasks: list[tuple[Question, int]],
        seed: int,
        temperature: float,
        top_p: float = 1.0,
        score_answers: bool = False,
        on_step: Callable[[Attempt], None] = lambda attempt: None,
    ) -> list[Trajectory]:
        """Run one trajectory for each (question, sample) and return them in order.

        Results depend on the tasks of this call and the seed alone. With `score_answers`, log p(y | x, z) of every
        gold alias is computed at the end, while the context is in the engine's cache. `on_step` hears of every
        attempt after each of its turns.
        """
        self.engine.forget()
        attempts = [self._start(question, sample, seed) for question, sample in tasks]
        sampling = Sampling(self.config.turn_tokens, [self.chat.stop_id], temperature, top_p)
        while running := [attempt for attempt in attempts if attempt.running]:
            self._take_turns(running, sampling)
            self._search([attempt for attempt in running if attempt.pending_query is not None])
            for attempt in running:
                on_step(attempt)
        scores = self._score(attempts) if score_answers else {}
        return [self._finish(attempt, scores.get(index, [])) for index, attempt in enumerate(attempts)]

    @staticmethod
    def seed_of(question: Question, sample: int, seed: int) -> int:
        """Return the seed of one trajectory of a run."""
        return derive_seed(seed, question.id, sample)

    def _start(self, question: Question, sample: int, seed: int) -> Attempt:
        transcript = Transcript(self.chat, self.grammar, question.text)
        attempt = Attempt(question, sample, self.seed_of(question, sample, seed), transcript)
        if self._room(attempt) < MIN_PASSAGE_TOKENS:
            attempt.stop_reason = StopReason.CONTEXT_FULL
        return attempt

    def _room(self, attempt: Attempt) -> int:
        """Tokens for each passage of the next search."""
        k = self.config.passages
        steps_left = self.config.max_steps - len(attempt.steps)
        most = k * self.config.passage_tokens
        return attempt.transcript.passage_budget(self.context, self.config.turn_tokens, steps_left, most) // k

    def _take_turns(self, running: list[Attempt], sampling: Sampling) -> None:
        start = time.monotonic()
        seeds = [derive_seed(attempt.seed, attempt.turns) for attempt in running]
        try:
            completions = self.engine.generate([a.transcript.token_ids for a in running], sampling, seeds)
        except EngineError:
            for attempt in running:
                attempt.stop_reason = StopReason.ENGINE_FAILED
            return
        share = (time.monotonic() - start) / len(running)
        for attempt, completion in zip(running, completions, strict=True):
            attempt.turns += 1
            attempt.turn_seconds = share
            attempt.transcript.said(completion.token_ids, completion.logprobs)
            self._read_turn(attempt, completion)

    def _read_turn(self, attempt: Attempt, completion: Completion) -> None:
        if completion.finish != "stop":
            attempt.stop_reason = StopReason.MALFORMED
            return
        text = self.chat.decode(completion.token_ids)
        if attempt.answering:
            attempt.answer, attempt.stop_reason = text.strip(), StopReason.ANSWERED
            return
        try:
            action = self.grammar.parse(text, first=not attempt.steps)
        except MalformedError:
            attempt.stop_reason = StopReason.MALFORMED
            return
        if attempt.steps:
            attempt.steps[-1] = msgspec.structs.replace(attempt.steps[-1], evidence=action.evidence)
        if action.query is None:
            attempt.transcript.ask_answer()
        elif len(attempt.steps) == self.config.max_steps:
            attempt.stop_reason = StopReason.MAX_STEPS
        else:
            attempt.pending_query = action.query

    def _search(self, searching: list[Attempt]) -> None:
        if not searching:
            return
        queries = [attempt.pending_query or "" for attempt in searching]
        start = time.monotonic()
        try:
            found = self.retriever.search(queries, self.config.passages)
        except RetrievalError:
            for attempt in searching:
                attempt.stop_reason, attempt.pending_query = StopReason.RETRIEVAL_FAILED, None
            return
        share = (time.monotonic() - start) / len(searching)
        for attempt, query, hits in zip(searching, queries, found, strict=True):
            self._show(attempt, query, hits, share)

    def _show(self, attempt: Attempt, query: str, hits: list[Hit], seconds: float) -> None:
        room = self._room(attempt)
        attempt.steps.append(Step(query, hits, None, attempt.turn_seconds, seconds))
        attempt.pending_query = None
        if room < MIN_PASSAGE_TOKENS:
            attempt.stop_reason = StopReason.CONTEXT_FULL
        else:
            attempt.transcript.show(hits, room * self.config.passages)

    def _score(self, attempts: list[Attempt]) -> dict[int, list[AliasScore]]:
        """Score every gold alias behind every answered trajectory, the n-th aliases of all in one call."""
        scores: dict[int, list[AliasScore]] = {
            index: [] for index, a in enumerate(attempts) if a.stop_reason == StopReason.ANSWERED
        }
        most = max((len(attempts[index].question.answers) for index in scores), default=0)
        for number in range(most):
            indices = [index for index in scores if number < len(attempts[index].question.answers)]
            aliases = [attempts[index].question.answers[number] for index in indices]
            prefixes = [attempts[i].transcript.token_ids[: attempts[i].transcript.answer_start] for i in indices]
            targets = [[*self.chat.encode(alias), self.chat.stop_id] for alias in aliases]
            try:
                logprobs = self.engine.logprobs(prefixes, targets)
            except EngineError:
                for index in scores:
                    attempts[index].answer, attempts[index].stop_reason = None, StopReason.ENGINE_FAILED
                return {}
            for index, alias, values in zip(indices, aliases, logprobs, strict=True):
                scores[index].append(AliasScore(alias, round(sum(values), 5), len(values)))
        return scores

    def _finish(self, attempt: Attempt, scores: list[AliasScore]) -> Trajectory:
        transcript = attempt.transcript
        assert attempt.stop_reason is not None
        return Trajectory(
            question_id=attempt.question.id,
            sample=attempt.sample,
            steps=attempt.steps,
            answer=attempt.answer,
            stop_reason=attempt.stop_reason,
            token_ids=transcript.token_ids,
            loss_mask=transcript.loss_mask,
            logprobs=[round(value, 5) for value in transcript.logprobs],
            answer_start=transcript.answer_start if attempt.answer is not None else None,
            seed=attempt.seed,
            model_fingerprint=self.engine.fingerprint,
            index_fingerprint=self.retriever.fingerprint,
            alias_scores=scores,
            shortened_passages=transcript.shortened_passages,
        )
