"""The way of a question: which files a call goes through, from the E-step's function to the model's first turn."""

import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from types import FrameType

import exsearch
from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent
from exsearch.config import AgentConfig, ExploreConfig, RolloutConfig
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Passage
from exsearch.em.explore import explore
from exsearch.engine.base import Completion, Sampling
from exsearch.questions.question import Question
from scripted import ScriptedEngine, StaticRetriever, lines

SOURCE = Path(exsearch.__file__).parent
FILES = 12
"""Maximum number of the project's files that are entered on the way."""
RETURNS = 2
"""Maximum number of times that one of them is left and entered again."""


class Way:
    """Writes down, from `begin` to `end`, the file of every function of the project that this thread calls."""

    def __init__(self) -> None:
        self._called: list[str] = []

    def begin(self) -> None:
        sys.setprofile(self._hear)

    def end(self) -> None:
        sys.setprofile(None)

    def _hear(self, frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SOURCE):
            self._called.append(path.relative_to(SOURCE).as_posix())

    def stays(self) -> list[str]:
        """Each file as often as it was entered from another one, in order."""
        return [file for file, _ in groupby(self._called)]


class FirstTurn(ScriptedEngine):
    """Ends the way where the model is asked for the first time."""

    way: Way | None = None

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        if self.way is not None:
            self.way.end()
        return await super().generate(prompt, sampling, seed)


def test_a_question_comes_to_the_model_through_few_files_and_does_not_go_back_and_forth(
    chat: ChatFormat, tmp_path: Path
) -> None:
    engine = FirstTurn(chat, lines("<QUERY> a", "<FACT> b <FINAL>", "Paris"))
    config, limits = AgentConfig(passages=1, turn_tokens=24, context=1024), RolloutConfig(in_flight=2)
    agent = Agent(engine, StaticRetriever([Passage("a", "A", "text")]), chat, config, limits)
    questions = [Question(f"q{n}", f"What is number {n}?", ["Paris"]) for n in range(3)]
    engine.way = Way()
    engine.way.begin()
    try:
        found = explore(agent, questions, ExploreConfig(samples=2), 3, tmp_path / "trajectories.jsonl")
    finally:
        engine.way.end()
    assert [each.answer for each in found] == ["Paris"] * 6
    stays = engine.way.stays()
    assert stays[0] == "em/explore.py" and "agent/episode.py" in stays, "the trace has seen the way"
    entered = Counter(stays)
    assert len(entered) <= FILES, sorted(entered)
    back = {file: times - 1 for file, times in entered.items() if times - 1 > RETURNS}
    assert not back, f"{back} in {stays}"
