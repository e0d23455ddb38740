"""Which files a call goes through: the way of a question, of settings, of a training job."""

import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from types import FrameType

import pytest

import exsearch
from exsearch.agent.agents import load_agents
from exsearch.agent.chat import ChatFormat
from exsearch.agent.experiment import Experiment
from exsearch.agent.rollout import Agent
from exsearch.cli.training import run_training
from exsearch.config import (
    AgentConfig,
    Config,
    ExploreConfig,
    ModelConfig,
    RolloutConfig,
    TrackingConfig,
    WarmupConfig,
    parse_config,
)
from exsearch.config.sections import Section
from exsearch.core.jsonl import write_jsonl
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.em import engine_keeper
from exsearch.em.explore import explore
from exsearch.em.loop import EMRun
from exsearch.engine.base import Completion, Sampling
from exsearch.engine.spec import EngineSpec
from exsearch.questions.question import Question
from exsearch.retrieval.index.build import build_index
from exsearch.training.example import Example
from exsearch.training.job import Job
from scripted import ScriptedEngine, StaticRetriever, lines

SOURCE = Path(exsearch.__file__).parent
FILES = 12
"""Maximum number of the project's files that are entered on the way."""
RETURNS = 2
"""Maximum number of times that one of them is left and entered again."""


class Way:
    """Writes down, from `begin` to `end`, the file of every function of the project that this thread calls.

    With `handed`, of those alone that are given such a value.
    """

    def __init__(self, *handed: type) -> None:
        self._handed = handed
        self._called: list[str] = []

    def begin(self) -> None:
        sys.setprofile(self._hear)

    def end(self) -> None:
        sys.setprofile(None)

    def _hear(self, frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event != "call" or not path.is_relative_to(SOURCE):
            return
        if not self._handed or any(isinstance(value, self._handed) for value in frame.f_locals.values()):
            self._called.append(path.relative_to(SOURCE).as_posix())

    def stays(self) -> list[str]:
        """Each file as often as it was entered from another one, in order."""
        return [file for file, _ in groupby(self._called)]

    def __enter__(self) -> "Way":
        self.begin()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


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


def test_settings_come_to_what_rolls_out_through_few_files(tmp_path: Path, tiny_checkpoint: Path) -> None:
    index = build_index(write_corpus(tmp_path / "corpus", [Passage("a", "A", "text")]), "bm25", tmp_path / "index")
    tree = {"model": {"path": str(tiny_checkpoint), "precision": "fp32"}, "data": {"index": str(index)}}
    experiment = Experiment(parse_config(tree, [], "test"))
    with Way(Section, Experiment, EngineSpec) as way:
        load_agents(experiment).close()
    entered = set(way.stays())
    assert {"agent/experiment.py", "agent/chat.py", "engine/load.py", "agent/rollout.py"} <= entered
    assert len(entered) <= FILES, sorted(entered)
    experiment = Experiment(experiment.config)
    with Way(Config, Experiment, EngineSpec) as way:
        load_agents(experiment).close()
    assert max(Counter(way.stays()).values()) == 1, f"the whole of them comes back to where it was: {way.stays()}"


def test_a_training_job_is_one_value_and_passes_few_files(tmp_path: Path, tiny_checkpoint: Path) -> None:
    example = Example(list(range(5, 25)), [0] * 10 + [1] * 10, 15)
    config = WarmupConfig(epochs=1)
    job = Job.of(tiny_checkpoint, [example], tmp_path / "out", config, ModelConfig(precision="fp32"), 1, "warmup")
    with Way(Job) as way:
        run_training(job, TrackingConfig(), as_json=True)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert way.stays()[:3] == ["cli/training.py", "training/logged.py", "training/start.py"]
    assert len(set(way.stays())) <= 5, way.stays()


def test_the_e_step_knows_what_it_explores_with_after_few_files(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index(write_corpus(tmp_path / "corpus", [Passage("a", "A", "text")]), "bm25", tmp_path / "index")
    write_jsonl(tmp_path / "q.jsonl", [Question(f"q{n}", f"What is number {n}?", ["Paris"]) for n in range(3)])
    data = {"index": str(index), **dict.fromkeys(("train", "dev", "test"), str(tmp_path / "q.jsonl"))}
    tree = {"data": data, "model": {"path": str(tiny_checkpoint)}, "warmup": {"questions": 0}}
    run = EMRun(parse_config(tree, [], "test"), tmp_path / "run", lambda line: None)
    way = Way()

    def loaded(experiment: Experiment) -> None:
        way.end()
        raise KeyboardInterrupt

    monkeypatch.setattr(engine_keeper, "load_agents", loaded)
    way.begin()
    try:
        run.e_step("iter-1", 1, "warmup")
    except KeyboardInterrupt:
        pass
    finally:
        way.end()
    assert way.stays()[0] == "em/loop.py" and "agent/experiment.py" in way.stays()
    assert len(set(way.stays())) <= 8, way.stays()
