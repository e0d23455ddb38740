"""Rollouts: each trajectory is a coroutine that alternates between the model and the retriever.

All trajectories are in progress at once, as many as there are seats. The engine advances all that are generating as one
batch; meanwhile, the queries of those that are searching go to the retriever as another batch.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import msgspec

from exsearch.agent.budget import Budget
from exsearch.agent.chat import ChatFormat
from exsearch.agent.episode import Episode
from exsearch.agent.scoring import Scorer
from exsearch.agent.search_queue import SearchQueue
from exsearch.agent.stop_strings import TurnReader
from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig, RolloutConfig
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.seeds import derive_seed
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Hit, Passage
from exsearch.effects import Settings, on_each
from exsearch.engine.base import Engine, EngineError, Sampling, Seat
from exsearch.processes import coroutines
from exsearch.questions.question import Question
from exsearch.retrieval.base import RetrievalError, Retriever

CHAT_FORMAT = "chat format"
"""Key of an agent's settings for how conversations become tokens: chat template, tokenizer, wording of the grammar."""
_SPELLED = "Which 3 cafés lie between the Bâle–東京 line and 'X'?"

OnStep = Callable[[Episode], None]


class Draw(msgspec.Struct, frozen=True):
    """How trajectories are drawn and scored."""

    seed: int
    temperature: float
    top_p: float = 1.0
    score_answers: bool = False
    """Compute log p(y | x, z) of every gold alias at the end, while the context is in the engine's cache."""
    score_opening: bool = False
    """Also compute it before the first passage is read."""
    score_steps: bool = False
    """Also compute it before the first passage and after every recorded fact."""
    branches: int = 1
    """See ExploreConfig; implies scoring steps."""
    branch_gain: float = 2.0


class Occupancy:
    """Counts conversations in progress. All must belong to one event loop, since the engine's answers go to one."""

    def __init__(self) -> None:
        """Start without any."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._is_closed = False

    def close(self) -> bool:
        """Refuse any further conversation; return whether this is the first call."""
        with self._lock:
            first = not self._is_closed
            self._is_closed = True
        return first

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one more meanwhile. Raises UsageError if it is closed, or if another loop has one in progress."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._is_closed:
                raise UsageError("the agent is closed; load it again")
            if self._count and self._loop is not loop:
                raise UsageError(
                    "the agent is in use, by a stream or another thread; read the stream to its end or close it, or "
                    "load another agent"
                )
            self._loop = loop
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1


class Agent:
    """A model and a retriever, connected by a grammar."""

    def __init__(
        self,
        engine: Engine,
        retriever: Retriever,
        chat: ChatFormat,
        config: AgentConfig,
        limits: RolloutConfig | None = None,
        model: Settings | None = None,
    ) -> None:
        """Assemble the agent; its context is the smaller of the model's and the configured one.

        `model` has those settings of the model that its output depends on.
        """
        self.engine, self.retriever, self.chat, self.config = engine, retriever, chat, config
        self.limits = limits or RolloutConfig()
        self.grammar = chat.grammar_of(config)
        for tag in self.grammar.tags:
            if chat.decode(chat.encode(tag)) != tag:
                raise UsageError(f"the model's vocabulary cannot spell {tag}: it decodes to another text")
        self.context = min(engine.context_size, config.context)
        self._budget = Budget(chat, self.grammar, config, self.context)
        self.in_flight = min(engine.seats, self.limits.in_flight)
        self.model_fingerprint, self.index_fingerprint = engine.fingerprint, retriever.fingerprint
        self.settings: Settings = {
            "model.path": engine.fingerprint,
            **(model or {}),
            CHAT_FORMAT: self._chat_format(),
            "data.index": retriever.fingerprint,
            **on_each("agent", config),
        }
        """Settings that trajectories depend on, by key; for a file or model, its fingerprint instead of its name."""
        self._turn_reader = TurnReader(chat, self.grammar.stops)
        self._search_queue = SearchQueue(retriever, config.passages, self.limits)
        self._occupancy = Occupancy()

    def close(self) -> None:
        """Free the model's memory; the agent cannot be used afterwards."""
        if self._occupancy.close():
            self.engine.shut_down()

    def opening(self, question: Question) -> TokenIds:
        """Return the tokens that every trajectory of a question starts with."""
        return Transcript(self.chat, self.grammar, question.text).token_ids

    def _chat_format(self) -> str:
        """Return a fingerprint of the tokens of a short conversation."""
        transcript = Transcript(self.chat, self.grammar, _SPELLED)
        transcript.show([Hit(Passage("1", "Café 12", _SPELLED), 1.0, 1)], budget=200)
        transcript.ask_answer()
        return fingerprint(transcript.token_ids)

    def rollout(
        self, tasks: list[tuple[Question, int]], draw: Draw, on_step: OnStep = lambda episode: None
    ) -> list[Trajectory]:
        """Roll out one trajectory, with its branches, for each (question, sample), and return them in order.

        `on_step` is called with every episode after each of its turns.
        """

        async def run() -> list[Trajectory]:
            free = asyncio.Semaphore(self.in_flight)

            async def one(question: Question, sample: int) -> list[Trajectory]:
                async with free:
                    return await self.trajectories(question, sample, draw, on_step)

            groups = await asyncio.gather(*(one(*task) for task in tasks))
            return [trajectory for group in groups for trajectory in group]

        return coroutines.run(run())

    async def trajectories(
        self, question: Question, sample: int, draw: Draw, on_step: OnStep = lambda episode: None
    ) -> list[Trajectory]:
        """Roll out a trajectory in a seat of the engine, then the branches started from it, in the same seat."""
        transcript = Transcript(self.chat, self.grammar, question.text)
        episodes = [Episode.begin(question, sample, draw.seed, transcript, self._budget)]
        with self._occupancy.one_more():
            seat = self.engine.open()
            try:
                for episode in episodes:  # branches are added while looping
                    episodes += await self._run(episode, seat, draw, on_step)
            finally:
                seat.close()
        return [episode.finish(self.model_fingerprint, self.index_fingerprint) for episode in episodes]

    async def rescored(self, question: Question, trajectory: Trajectory) -> Trajectory:
        """Return a trajectory with log-probs, recomputed by this model, of what the model wrote and of the gold
        answers.

        Scores after single steps are dropped. A trajectory that cannot be scored becomes `engine_failed`.
        """
        transcript = Transcript(self.chat, self.grammar, question.text)
        episode = Episode.at_end_of(trajectory, question, transcript, self._budget)
        with self._occupancy.one_more():
            seat = self.engine.open()
            try:
                await Scorer(seat, self.context).again(episode)
            except EngineError as error:
                episode.stop(StopReason.ENGINE_FAILED, str(error))
            finally:
                seat.close()
        return episode.finish(self.model_fingerprint, trajectory.index_fingerprint)

    async def _run(self, episode: Episode, seat: Seat, draw: Draw, on_step: OnStep) -> list[Episode]:
        """Run an episode to its end; return the branches to run next. Any failure becomes its typed stop reason."""
        branches: list[Episode] = []
        scorer = Scorer(seat, self.context) if self.engine.scores else None
        try:
            async with asyncio.timeout(self.limits.trajectory_seconds):
                while episode.running:
                    if episode.pending_query is None:
                        await self._speak(episode, seat, draw)
                    if episode.pending_query is not None:
                        gain = await self._search_and_score(episode, episode.pending_query, scorer, draw)
                        if draw.branches > 1 and gain >= draw.branch_gain and episode.share == 1 and episode.running:
                            branches = episode.fork(draw.branches, draw.seed)
                    if episode.running:
                        on_step(episode)
                if scorer is not None and draw.score_answers and episode.stop_reason == StopReason.ANSWERED:
                    await scorer.answer(episode)
        except EngineError as error:
            episode.stop(StopReason.ENGINE_FAILED, str(error))
        except RetrievalError as error:
            episode.stop(StopReason.RETRIEVAL_FAILED, str(error))
        except TimeoutError:
            episode.stop(StopReason.ENGINE_FAILED, f"no end within {self.limits.trajectory_seconds:g} s")
        on_step(episode)
        return branches

    async def _speak(self, episode: Episode, seat: Seat, draw: Draw) -> None:
        """Let the model take its next turn."""
        sampling = Sampling(self.config.turn_tokens, self._turn_reader.stop_ids, draw.temperature, draw.top_p)
        seed, start = derive_seed(episode.seed, episode.turns), time.monotonic()
        speak = partial(self._turn_reader.turn, seat) if self.grammar.stops else seat.generate
        try:
            async with asyncio.timeout(self.limits.turn_seconds):
                completion = await speak(episode.transcript.token_ids, sampling, seed)
        except TimeoutError:
            raise EngineError(f"no turn within {self.limits.turn_seconds:g} s") from None
        episode.heard(completion, time.monotonic() - start)

    async def _search_and_score(self, episode: Episode, query: str, scorer: Scorer | None, draw: Draw) -> float:
        """Search, and meanwhile score the facts so far if `draw` asks for it; return the rise of the answer's log-prob,
        in nats."""
        search = asyncio.create_task(self._search(episode, query))
        scored = draw.score_steps or draw.branches > 1 or (draw.score_opening and not episode.steps)
        try:
            gain = await scorer.step(episode) if scored and scorer is not None else 0.0
        except BaseException:
            search.cancel()
            raise
        await search
        return gain

    async def _search(self, episode: Episode, query: str) -> None:
        """Search, and show the passages to the model."""
        start = time.monotonic()
        page = 1 + episode.asked_before(query) if self.config.repeated == "next" else 1
        hits = await self._search_queue.search(query, page)
        episode.searched(query, hits, time.monotonic() - start)
