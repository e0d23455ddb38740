"""Rollouts: each trajectory is a coroutine that takes turns with the model and the retriever.

All trajectories are in flight at once, as many as there are seats. The engine advances those that speak together;
those that search are searched for together, meanwhile.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np

from exsearch.agent.attempt import Attempt
from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import MalformedError
from exsearch.agent.grammars.known import make_grammar
from exsearch.agent.searching import Searcher
from exsearch.agent.speaking import Speaking
from exsearch.agent.trajectory import FOLDED, AliasScore, Cost, Step, StopReason, Trajectory, answer_logprob
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig, RolloutConfig
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.seeds import derive_seed
from exsearch.core.thoughts import without_thoughts
from exsearch.core.tokens import TokenIds, common_start
from exsearch.corpus.passage import Hit, Passage
from exsearch.effects import Settings, on_each
from exsearch.engine.base import Completion, Engine, EngineError, Sampling, Seat
from exsearch.processes import coroutines
from exsearch.questions.question import Question
from exsearch.retrieval.base import RetrievalError, Retriever

MIN_PASSAGE_TOKENS = 16
"""A search whose passages would get fewer tokens each is not worth showing: the context is full."""

CHAT_FORMAT = "chat format"
"""Of an agent's settings, the key of how conversations are spelled: chat template, tokenizer, words of the grammar."""
_SPELLED = "Which 3 cafés lie between the Bâle–東京 line and 'X'?"

OnStep = Callable[[Attempt], None]


class Draw(msgspec.Struct, frozen=True):
    """How trajectories are drawn and scored."""

    seed: int
    temperature: float
    top_p: float = 1.0
    score_answers: bool = False
    """Compute log p(y | x, z) of every gold alias at the end, while the context is in the engine's cache."""
    score_opening: bool = False
    """The same before the first passage is read."""
    score_steps: bool = False
    """The same, and after every recorded fact."""
    branches: int = 1
    """See ExploreConfig; scores steps, too."""
    branch_gain: float = 2.0


def seed_of(question: Question, sample: int, seed: int, branch: int = 0) -> int:
    """Return the seed of one trajectory of a run."""
    return derive_seed(seed, question.id, sample + branch * FOLDED)


class Agent:
    """A model, a retriever and the grammar between them."""

    def __init__(
        self,
        engine: Engine,
        retriever: Retriever,
        chat: ChatFormat,
        config: AgentConfig,
        limits: RolloutConfig | None = None,
        model: Settings | None = None,
    ) -> None:
        """Put the parts together; the context is the smaller of the model's and the configured one.

        `model` has what is known of the model's settings that change what it says.
        """
        self.engine, self.retriever, self.chat, self.config = engine, retriever, chat, config
        self.limits = limits or RolloutConfig()
        self.grammar = make_grammar(config)
        asked = self.grammar.answers_after(config.max_steps)
        self._last_search = None if asked is None else min(asked, config.max_steps)
        """After so many searches the answer is asked for, whatever the model wants."""
        for tag in self.grammar.tags:
            if chat.decode(chat.encode(tag)) != tag:
                raise UsageError(f"the model's vocabulary cannot spell {tag}: it comes back as another text")
        self.context = min(engine.context_size, config.context)
        self.in_flight = min(engine.seats, self.limits.in_flight)
        self.model_fingerprint, self.index_fingerprint = engine.fingerprint, retriever.fingerprint
        self.settings: Settings = {
            "model.path": engine.fingerprint,
            **(model or {}),
            CHAT_FORMAT: self._chat_format(),
            "data.index": retriever.fingerprint,
            **on_each("agent", config),
        }
        """What its trajectories depend on, by key; of what only names a file or a model, what it stands for."""
        self._speaking = Speaking(chat, self.grammar.stops)
        self._searcher = Searcher(retriever, config.passages, self.limits)

    def close(self) -> None:
        """Free the memory of the model."""
        self.engine.shut_down()

    def opening(self, question: Question) -> TokenIds:
        """Return the tokens that every trajectory of a question begins with."""
        return Transcript(self.chat, self.grammar, question.text).token_ids

    def _chat_format(self) -> str:
        """Return the fingerprint of a short conversation's tokens."""
        transcript = Transcript(self.chat, self.grammar, _SPELLED)
        transcript.show([Hit(Passage("1", "Café 12", _SPELLED), 1.0, 1)], budget=200)
        transcript.ask_answer()
        return fingerprint(transcript.token_ids)

    def rollout(
        self, tasks: list[tuple[Question, int]], draw: Draw, on_step: OnStep = lambda attempt: None
    ) -> list[Trajectory]:
        """Run one trajectory, with its branches, for each (question, sample) and return them in order.

        `on_step` hears of every attempt after each of its turns.
        """

        async def run() -> list[Trajectory]:
            free = asyncio.Semaphore(self.in_flight)

            async def one(question: Question, sample: int) -> list[Trajectory]:
                async with free:
                    return await self.trajectories(question, sample, draw, on_step)

            found = await asyncio.gather(*(one(*task) for task in tasks))
            return [trajectory for group in found for trajectory in group]

        return coroutines.run(run())

    async def trajectories(
        self, question: Question, sample: int, draw: Draw, on_step: OnStep = lambda attempt: None
    ) -> list[Trajectory]:
        """Run a trajectory in a seat of the engine, then the branches that were started from it, in the same seat."""
        attempts = [self._start(question, sample, draw.seed)]
        seat = self.engine.open()
        try:
            for attempt in attempts:  # which grows by branches
                attempts += await self._run(attempt, seat, draw, on_step)
        finally:
            seat.close()
        return [attempt.finish(self.model_fingerprint, self.index_fingerprint) for attempt in attempts]

    async def rescored(self, question: Question, trajectory: Trajectory) -> Trajectory:
        """Return a trajectory with the log-probs that this model gives what was said in it, and the gold answers.

        Those after single steps are dropped. One whose scoring fails becomes `engine_failed`.
        """
        attempt = Attempt.at_end_of(trajectory, question, Transcript(self.chat, self.grammar, question.text))
        attempt.steps = [msgspec.structs.replace(step, answer_logprob=None) for step in attempt.steps]
        transcript, seat = attempt.transcript, self.engine.open()
        try:
            for start, stop in _turns(transcript.loss_mask):
                said = transcript.token_ids[start:stop]
                transcript.logprobs[start:stop] = await seat.logprobs(transcript.token_ids[:start], said)
            said = attempt.said_answer()
            if trajectory.alias_scores:
                attempt.alias_scores = await self._score(attempt, seat, self._context_of_answer(attempt), said)
            if trajectory.opening_logprob is not None:
                opened = replace(attempt, transcript=self._before_evidence(attempt))
                counted = said if any(score.said for score in attempt.alias_scores) else None
                opening = await self._score(opened, seat, opened.transcript.asked_now(), counted)
                attempt.opening_logprob = answer_logprob(opening, "sum") if opening else None
        except EngineError as error:
            attempt.stop(StopReason.ENGINE_FAILED, str(error))
        finally:
            seat.close()
        return attempt.finish(self.model_fingerprint, trajectory.index_fingerprint)

    def _before_evidence(self, attempt: Attempt) -> Transcript:
        """Return an attempt's transcript as it was while its first search was under way."""
        transcript, text = attempt.transcript, attempt.question.text
        opened = Transcript(self.chat, self.grammar, text)
        if self.grammar.first_query(text) is None:
            start, stop = _turns(transcript.loss_mask)[0]
            opened.said(transcript.token_ids[start:stop], transcript.logprobs[start:stop])
        return opened

    def _start(self, question: Question, sample: int, seed: int) -> Attempt:
        transcript = Transcript(self.chat, self.grammar, question.text)
        attempt = Attempt(question, sample, seed_of(question, sample, seed), transcript)
        if self._room(attempt) < MIN_PASSAGE_TOKENS:
            attempt.stop(StopReason.CONTEXT_FULL)
        elif self._last_search == 0:
            transcript.answer_next()
        else:
            attempt.pending_query = self.grammar.first_query(question.text)
        return attempt

    def _room(self, attempt: Attempt) -> int:
        """Tokens for each passage of the next search."""
        k = self.config.passages
        searches = self.config.max_steps if self._last_search is None else self._last_search
        steps_left = max(searches - len(attempt.steps), 1)
        most = k * self.config.passage_tokens
        return attempt.transcript.passage_budget(self.context, self.config.turn_tokens, steps_left, most) // k

    async def _run(self, attempt: Attempt, seat: Seat, draw: Draw, on_step: OnStep) -> list[Attempt]:
        """Run an attempt to its end; return the branches to run after it. Whatever fails is its typed stop reason."""
        branches: list[Attempt] = []
        try:
            async with asyncio.timeout(self.limits.trajectory_seconds):
                while attempt.running:
                    if attempt.pending_query is None:
                        await self._take_turn(attempt, seat, draw)
                    if attempt.pending_query is not None:
                        promising = await self._search_and_score(attempt, seat, draw)
                        if promising and attempt.running:
                            branches = self._branch(attempt, draw)
                    if attempt.running:
                        on_step(attempt)
                if draw.score_answers and self.engine.scores and attempt.stop_reason == StopReason.ANSWERED:
                    await self._score_answer(attempt, seat)
        except EngineError as error:
            attempt.stop(StopReason.ENGINE_FAILED, str(error))
        except RetrievalError as error:
            attempt.stop(StopReason.RETRIEVAL_FAILED, str(error))
        except TimeoutError:
            attempt.stop(StopReason.ENGINE_FAILED, f"no end within {self.limits.trajectory_seconds:g} s")
        on_step(attempt)
        return branches

    async def _take_turn(self, attempt: Attempt, seat: Seat, draw: Draw) -> None:
        sampling = Sampling(self.config.turn_tokens, self._speaking.stop_ids, draw.temperature, draw.top_p)
        start = time.monotonic()
        try:
            async with asyncio.timeout(self.limits.turn_seconds):
                prompt, seed = attempt.transcript.token_ids, derive_seed(attempt.seed, attempt.turns)
                completion = await self._speaking.turn(seat, prompt, sampling, seed)
        except TimeoutError:
            raise EngineError(f"no turn within {self.limits.turn_seconds:g} s") from None
        attempt.turns += 1
        attempt.turn_cost = Cost(
            model_seconds=round(time.monotonic() - start, 5),
            queue_seconds=round(completion.queue_seconds, 5),
            prefilled_tokens=completion.prefilled,
            cached_tokens=completion.cached,
            generated_tokens=len(completion.token_ids) if completion.generated is None else completion.generated,
        )
        attempt.cost += attempt.turn_cost
        attempt.exact &= completion.exact
        attempt.scored &= completion.scored
        attempt.transcript.said(completion.token_ids, completion.logprobs)
        self._read_turn(attempt, completion)

    def _read_turn(self, attempt: Attempt, completion: Completion) -> None:
        cut = completion.finish != "stop"
        if cut and not self.grammar.forgiving:
            attempt.stop(StopReason.MALFORMED)
            return
        said = self.chat.decode(completion.token_ids)
        text = said if self.grammar.stops else without_thoughts(said, self.chat.begins_thought)
        try:
            if text is None or (cut and attempt.answering and not text.strip()):
                raise MalformedError(said)
            if attempt.answering:
                attempt.answer = self.grammar.read_answer(text)
                if text != said:
                    attempt.transcript.answered_behind_thoughts(len(completion.token_ids))
                attempt.stop(StopReason.ANSWERED)
                return
            action = self.grammar.parse(text, first=not attempt.steps)
        except MalformedError:
            attempt.stop(StopReason.MALFORMED)
            return
        if attempt.steps:
            attempt.steps[-1] = msgspec.structs.replace(attempt.steps[-1], evidence=action.evidence)
        if action.answer is not None:
            attempt.answer = action.answer
            attempt.transcript.answered_within(len(completion.token_ids))
            attempt.stop(StopReason.ANSWERED)
        elif action.query is None:
            attempt.transcript.ask_answer()
        elif len(attempt.steps) == self.config.max_steps:
            attempt.stop(StopReason.MAX_STEPS)
        else:
            attempt.pending_query = action.query

    async def _search_and_score(self, attempt: Attempt, seat: Seat, draw: Draw) -> bool:
        """Search, and meanwhile score what is known so far if told to; return whether that has become promising."""
        search = asyncio.create_task(self._search(attempt))
        scored = draw.score_steps or draw.branches > 1 or (draw.score_opening and not attempt.steps)
        try:
            gain = await self._score_step(attempt, seat) if scored and self.engine.scores else 0.0
        except BaseException:
            search.cancel()
            raise
        await search
        return gain >= draw.branch_gain and draw.branches > 1 and attempt.share == 1

    async def _search(self, attempt: Attempt) -> None:
        """Search and show the passages."""
        query, start = attempt.pending_query or "", time.monotonic()
        asked_before = sum(step.query == query for step in attempt.steps)
        page = 1 + asked_before if self.config.repeated == "next" else 1
        hits = await self._searcher.search(query, page)
        seconds = round(time.monotonic() - start, 5)
        room = self._room(attempt)
        attempt.cost += Cost(search_seconds=seconds)
        cost = msgspec.structs.replace(attempt.turn_cost, search_seconds=seconds)
        attempt.steps.append(Step(query, hits, None, cost))
        attempt.pending_query = None
        if room < MIN_PASSAGE_TOKENS:
            attempt.stop(StopReason.CONTEXT_FULL)
        else:
            attempt.transcript.show(hits, room * self.config.passages, ask=len(attempt.steps) == self._last_search)

    async def _score_step(self, attempt: Attempt, seat: Seat) -> float:
        """Score the gold answer as if it were asked for now; return how much likelier it has become, in nats."""
        facts, context = len(attempt.steps), attempt.transcript.asked_now()
        scores = await self._score(attempt, seat, context)
        if not scores:
            return 0.0
        attempt.scored_behind[facts] = context
        value, before = answer_logprob(scores, "sum"), attempt.likelihood(facts - 1) if facts else None
        attempt.set_likelihood(facts, value)
        return value - before if before is not None else 0.0

    def _branch(self, attempt: Attempt, draw: Draw) -> list[Attempt]:
        """Return further continuations from here; they and this one share what one sample counts."""
        attempt.share = 1 / draw.branches
        branches = []
        for number in range(1, draw.branches):
            branches.append(attempt.fork(number, seed_of(attempt.question, attempt.sample, draw.seed, number)))
        return branches

    @staticmethod
    def _context_of_answer(attempt: Attempt) -> TokenIds:
        return attempt.transcript.token_ids[: attempt.transcript.answer_start]

    async def _score_answer(self, attempt: Attempt, seat: Seat) -> None:
        """Score the accepted answers behind the finished trajectory; of the model's own spelling the same before it.

        So that the rises of p(y | ...) within a trajectory, and its gain over p(y | x), are those of one event.
        """
        said = attempt.said_answer()
        attempt.alias_scores = await self._score(attempt, seat, self._context_of_answer(attempt), said)
        if not any(score.said for score in attempt.alias_scores):
            return
        for facts, earlier in attempt.scored_behind.items():
            value = attempt.likelihood(facts)
            if value is not None and len(earlier) + len(said) <= self.context:
                own = sum(await seat.logprobs(earlier, said))
                attempt.set_likelihood(facts, float(np.logaddexp(value, own)))

    async def _score(
        self, attempt: Attempt, seat: Seat, context: TokenIds, said: TokenIds | None = None
    ) -> list[AliasScore]:
        """Score every gold alias behind the context, and what the model said there, if it is given and no alias.

        Each sequence of tokens is scored once. As far as the model said it behind the context, its log-probs are known.
        """
        transcript, scores = attempt.transcript, []
        known_ids = transcript.token_ids[len(context) :] if attempt.exact and attempt.scored else []
        spellings: dict[tuple[int, ...], tuple[str, bool]] = {}
        for alias in attempt.question.answers:
            spellings.setdefault(tuple(transcript.answer_ids(alias)), (alias, False))
        if said:
            spellings.setdefault(tuple(said), (attempt.answer or "", True))
        for ids, (text, own) in spellings.items():
            target = list(ids)
            if len(context) + len(target) > self.context:
                continue
            known = common_start(target, known_ids)
            logprobs = transcript.logprobs[len(context) : len(context) + known]
            if known < len(target):
                logprobs = logprobs + await seat.logprobs(context + target[:known], target[known:])
            scores.append(AliasScore(text, round(sum(logprobs), 5), len(logprobs), own))
        return scores


def _turns(loss_mask: list[int]) -> list[tuple[int, int]]:
    """Return where each run of tokens begins and ends that the model said."""
    edges = [place for place, (a, b) in enumerate(pairwise([0, *loss_mask, 0])) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))
