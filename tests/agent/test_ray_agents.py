"""Exploring on several Ray workers ends as it does in this process, also when a worker is killed in the middle."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from exsearch.agent.agents import load_agents
from exsearch.agent.chat import ChatFormat
from exsearch.agent.experiment import Experiment
from exsearch.agent.loading import load_agent
from exsearch.agent.ray_agents import RayAgents
from exsearch.agent.trajectory import Cost, Trajectory
from exsearch.config import AgentConfig, Config, DataConfig, ExploreConfig, ModelConfig, RolloutConfig
from exsearch.core.jsonl import read_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.em.explore import explore
from exsearch.questions.question import Question
from exsearch.retrieval.index.build import build_index
from exsearch.world import World
from tiny_models import save_tiny

pytestmark = [pytest.mark.slow, pytest.mark.needs("ray")]
EXPLORE = ExploreConfig(samples=6)
CONFIG = Config(
    model=ModelConfig(precision="fp32"),
    agent=AgentConfig(max_steps=2, passages=1, turn_tokens=40, context=512),
    rollout=RolloutConfig(in_flight=4, ray="local", workers=2),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, chat: ChatFormat) -> tuple[Path, str, list[Question]]:
    folder = tmp_path_factory.mktemp("ray")
    world = World(seed=3, passages=200)
    index = build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    return save_tiny(folder / "model", chat), str(index), list(world.questions("train", limit=12))


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


def timeless(trajectories: list[Trajectory]) -> list[Trajectory]:
    return [
        msgspec.structs.replace(t, cost=Cost(), steps=[msgspec.structs.replace(s, cost=Cost()) for s in t.steps])
        for t in trajectories
    ]


def test_workers_find_what_one_process_finds_and_one_of_them_may_be_killed(
    parts: tuple[Path, str, list[Question]], tmp_path: Path
) -> None:
    model, index, questions = parts
    data, path = DataConfig(index=index), msgspec.structs.replace(CONFIG.model, path=str(model))
    config = msgspec.structs.replace(CONFIG, model=path, data=data)
    agents = load_agents(Experiment(config))
    assert isinstance(agents, RayAgents)
    journal = tmp_path / "ray.jsonl"
    killed = []

    def kill() -> None:
        import ray

        while not (journal.exists() and journal.read_bytes().count(b"\n") > 5):
            time.sleep(0.01)
        process = ray.get(agents._workers[0].process.remote())
        os.kill(process, signal.SIGKILL)
        killed.append(process)

    killer = threading.Thread(target=kill)
    killer.start()
    found = explore(agents, questions, EXPLORE, 1, journal)
    killer.join()
    agents.close()
    assert killed
    keys = [(t.question_id, t.sample) for t in read_jsonl(journal, Trajectory)]
    assert len(keys) == len(set(keys)) == 12 * 6
    alone = explore(load_agent(Experiment(config)), questions, EXPLORE, 1, tmp_path / "alone.jsonl")
    assert [(t.question_id, t.sample, t.seed) for t in found] == [(t.question_id, t.sample, t.seed) for t in alone]
    assert timeless(found) == timeless(alone)
