"""An index behind several processes answers like the index itself, also when one of them is killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from exsearch.core.errors import UsageError
from exsearch.retrieval.base import Retriever
from exsearch.serving.replicas import Replicas
from serving_server import tiny_index

pytestmark = [pytest.mark.slow, pytest.mark.needs("ray")]
QUERIES = ["capital of France", "Tiber", "Orwell", "letters", "city"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Retriever, Replicas]]:
    folder = tmp_path_factory.mktemp("replicas")
    index, _ = tiny_index(folder)
    replicas = Replicas(folder / "index", None, index.fingerprint, 2, "local", seconds=60)
    yield index, replicas
    replicas.close()
    import ray

    ray.shutdown()


def test_replicas_answer_like_the_index_and_survive_one_that_is_killed(opened: tuple[Retriever, Replicas]) -> None:
    index, replicas = opened
    expected = index.search(QUERIES, 3)
    assert replicas.search(QUERIES, 3) == expected
    assert replicas.search([], 3) == []
    processes = {replicas.handle.process.remote().result() for _ in range(50)}
    assert len(processes) == 2
    os.kill(processes.pop(), signal.SIGKILL)
    for _ in range(30):
        assert replicas.search(QUERIES, 3) == expected


def test_what_the_retriever_raises_is_raised(opened: tuple[Retriever, Replicas]) -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        opened[1].search(["x"], 0)


def test_a_cluster_that_is_too_small_is_refused(tmp_path: Path, opened: tuple[Retriever, Replicas]) -> None:
    with pytest.raises(UsageError, match=r"--replicas 5000: .* has \d+ processors"):
        Replicas(tmp_path, None, "0" * 16, 5000, "local", seconds=60)
