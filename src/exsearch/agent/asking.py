"""An agent that a program asks questions, one at a time: the answer when it is there, or step by step."""

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
    """A model that answers questions by searching an index; `load_agent` makes one.

    It holds the memory of its model until it is closed, which `with` does:

    >>> with xs.load_agent(model, index) as agent:
    ...     trajectory = agent.answer("Who founded the Marlow Observatory?")
    """

    def answer(self, question: str | Question, *, temperature: float = 0.0, seed: int = 0) -> Trajectory:
        """Return what the model does on a question: its steps, its answer, and why it stopped.

        At temperature 0 it always takes the likeliest token; above, `seed` says which trajectory is drawn. The answer
        is None where the trajectory did not come to one. Raises UsageError for an empty question.

        >>> trajectory = agent.answer("Who founded the Marlow Observatory?")
        >>> trajectory.answer
        'Ada Quill'
        >>> [step.query for step in trajectory.steps]
        ['founder of the Marlow Observatory']
        """
        [trajectory] = self.rollout([(_asked(question), 0)], Draw(seed=seed, temperature=temperature))
        return trajectory

    def stream(self, question: str | Question, *, temperature: float = 0.0, seed: int = 0) -> "Stream":
        """Return the steps of a trajectory as they come, each once the model is done with it; see `Stream`.

        >>> stream = agent.stream("Who founded the Marlow Observatory?")
        >>> for step in stream:
        ...     print(step.query, "->", step.evidence)
        founder of the Marlow Observatory -> Ada Quill founded it.
        >>> stream.answer
        'Ada Quill'
        """
        asked, draw = _asked(question), Draw(seed=seed, temperature=temperature)

        async def run(tell: Callable[[Event], None]) -> None:
            [trajectory] = await self.trajectories(asked, 0, draw, _Teller(tell))
            tell(trajectory)

        return Stream(coroutines.iterate(run))

    def __enter__(self) -> Self:
        """Return the agent itself, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the memory of the model."""
        self.close()


class Stream:
    """One trajectory under way. Iterating yields its steps as they come; the model goes on in a thread meanwhile."""

    def __init__(self, events: Generator[Event, None, None]) -> None:
        """Take the steps and, at last, the trajectory."""
        self._events = events
        self._trajectory: Trajectory | None = None

    def __iter__(self) -> Iterator[Step]:
        """Yield the steps that are not yet yielded, each as soon as the model is done with it."""
        for event in self._events:
            if isinstance(event, Trajectory):
                self._trajectory = event
            else:
                yield event

    @property
    def trajectory(self) -> Trajectory:
        """The whole trajectory; waits for its end."""
        for _ in self:
            pass
        if self._trajectory is None:
            raise ExSearchError("the stream was closed before its end: there is no answer")
        return self._trajectory

    @property
    def answer(self) -> str | None:
        """The answer, None if the trajectory did not come to one; waits for its end."""
        return self.trajectory.answer

    def close(self) -> None:
        """Stop the model, wherever it is; a stream that is no longer used does so by itself."""
        self._events.close()


class _Teller:
    """Tells of each step of an episode once, when it is complete."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell, self._told = tell, 0

    def __call__(self, episode: Episode) -> None:
        ended = episode.answering or not episode.running
        complete = episode.steps if ended else episode.steps[:-1]  # of the last one, evidence may be recorded yet
        for step in complete[self._told :]:
            self._tell(step)
        self._told = len(complete)


def _asked(question: str | Question) -> Question:
    asked = Question("asked", question, []) if isinstance(question, str) else question
    if not asked.text.strip():
        raise UsageError("the question is empty")
    return asked
