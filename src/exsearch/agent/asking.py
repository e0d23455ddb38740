"""An agent for use in a program: asks one question at a time and returns the answer, or yields its steps."""

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Self

from exsearch.agent.episode import Episode
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import Step, Trajectory
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.processes import coroutines
from exsearch.questions.question import Question

Event = Step | Trajectory


class SearchAgent(Agent):
    """A model that answers questions by searching an index; created by `load_agent`.

    It occupies the memory of its model until it is closed, which `with` does:

    >>> with xs.load_agent(model, index) as agent:
    ...     trajectory = agent.answer("Who founded the Marlow Observatory?")
    """

    def answer(self, question: str | Question, *, temperature: float = 0.0, seed: int = 0) -> Trajectory:
        """Answer a question; return the trajectory with its steps, its answer, and why it stopped.

        At temperature 0 the model takes the most likely token each time; above 0, `seed` decides which trajectory is
        drawn. The answer is None if the trajectory ended without one. Raises UsageError for an empty question.

        >>> trajectory = agent.answer("Who founded the Marlow Observatory?")
        >>> trajectory.answer
        'Ada Quill'
        >>> [step.query for step in trajectory.steps]
        ['founder of the Marlow Observatory']
        """
        [trajectory] = self.rollout([(_as_question(question), 0)], Draw(seed=seed, temperature=temperature))
        return trajectory

    def stream(self, question: str | Question, *, temperature: float = 0.0, seed: int = 0) -> "Stream":
        """Return the trajectory's steps as they are completed; see `Stream`.

        >>> stream = agent.stream("Who founded the Marlow Observatory?")
        >>> for step in stream:
        ...     print(step.query, "->", step.evidence)
        founder of the Marlow Observatory -> Ada Quill founded it.
        >>> stream.answer
        'Ada Quill'
        """
        record, draw = _as_question(question), Draw(seed=seed, temperature=temperature)

        async def run(tell: Callable[[Event], None]) -> None:
            [trajectory] = await self.trajectories(record, 0, draw, _Teller(tell))
            tell(trajectory)

        return Stream(coroutines.iterate(run))

    def __enter__(self) -> Self:
        """Return the agent itself, which is closed at the end of the `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the model's memory."""
        self.close()


class Stream:
    """A trajectory in progress. Iterating yields its steps as they are completed; the model runs on in a thread."""

    def __init__(self, events: Generator[Event, None, None]) -> None:
        """`events` yields the steps, and finally the trajectory."""
        self._events = events
        self._trajectory: Trajectory | None = None

    def __iter__(self) -> Iterator[Step]:
        """Yield the steps that were not yielded before, each as soon as the model has completed it."""
        for event in self._events:
            if isinstance(event, Trajectory):
                self._trajectory = event
            else:
                yield event

    @property
    def trajectory(self) -> Trajectory:
        """The whole trajectory; waits until it has ended."""
        for _ in self:
            pass
        if self._trajectory is None:
            raise ExSearchError("the stream was closed before its end: there is no answer")
        return self._trajectory

    @property
    def answer(self) -> str | None:
        """The answer, None if the trajectory ended without one; waits until it has ended."""
        return self.trajectory.answer

    def close(self) -> None:
        """Stop the model, wherever it is; happens by itself when the stream is garbage-collected."""
        self._events.close()


class _Teller:
    """Passes on each step of an episode once, when it is complete."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell, self._told = tell, 0

    def __call__(self, episode: Episode) -> None:
        ended = episode.answering or not episode.running
        complete = episode.steps if ended else episode.steps[:-1]  # evidence may still be recorded for the last one
        for step in complete[self._told :]:
            self._tell(step)
        self._told = len(complete)


def _as_question(question: str | Question) -> Question:
    record = Question("asked", question, []) if isinstance(question, str) else question
    if not record.text.strip():
        raise UsageError("the question is empty")
    return record
