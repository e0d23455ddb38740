"""Exploring with a retrieval server that fails, is slow or talks nonsense: every question ends, and says why."""

import random
import threading
from collections import Counter
from pathlib import Path

import pytest

from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent
from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.config import AgentConfig, ExploreConfig, RolloutConfig
from exsearch.core.jsonl import read_jsonl
from exsearch.em.explore import explore
from exsearch.questions.question import Question
from exsearch.retrieval.open import open_retriever
from scripted import ScriptedEngine
from scripted_server import Asked, Reply, Scripted, search_r1, serving

QUESTIONS = [Question(f"q{n}", f"What is number {n}?", [f"the {n}th"]) for n in range(25)]
AGENT = AgentConfig(max_steps=2, passages=2, turn_tokens=32, context=512)


def by_turn(prompt: str, turn: int, seed: int) -> str:
    """A model that searches for something of its own twice."""
    about = seed % 10**6
    return [f"<QUERY> about {about}", f"<FACT> nothing <QUERY> more about {about}", "<FACT> it <FINAL>", "it"][turn]


def explored(server: Scripted, chat: ChatFormat, limits: RolloutConfig, journal: Path) -> list[Trajectory]:
    retriever = open_retriever(f"http://{server.address}", seconds=limits.search_seconds)
    agent = Agent(ScriptedEngine(chat, by_turn), retriever, chat, AGENT, limits)
    trajectories = explore(agent, QUESTIONS, ExploreConfig(samples=4), 1, journal)
    written = {(t.question_id, t.sample) for t in read_jsonl(journal, Trajectory)}
    assert written == {(q.id, k) for q in QUESTIONS for k in range(4)}
    return trajectories


@pytest.mark.parametrize(("retries", "fewest", "most"), [(0, 3, 60), (3, 0, 3)])
def test_a_server_that_fails_three_times_in_ten(
    chat: ChatFormat, tmp_path: Path, retries: int, fewest: int, most: int
) -> None:
    chance = random.Random(5)

    def reply(asked: Asked) -> Reply:
        return (500, {}, b"out of memory") if chance.random() < 0.3 else search_r1(asked)

    with serving(reply) as server:
        found = explored(server, chat, RolloutConfig(search_retries=retries, in_flight=4), tmp_path / "t.jsonl")
    stops = Counter(trajectory.stop_reason for trajectory in found)
    assert set(stops) <= {StopReason.ANSWERED, StopReason.RETRIEVAL_FAILED}
    assert fewest <= stops[StopReason.RETRIEVAL_FAILED] <= most
    failed = [trajectory for trajectory in found if trajectory.stop_reason == StopReason.RETRIEVAL_FAILED]
    assert all("status 500: 'out of memory'" in (trajectory.stop_detail or "") for trajectory in failed)
    assert all(not trajectory.alias_scores for trajectory in failed)


def test_a_server_that_answers_after_twenty_seconds(chat: ChatFormat, tmp_path: Path) -> None:
    over = threading.Event()

    def reply(asked: Asked) -> Reply:
        over.wait(20)
        return search_r1(asked)

    with serving(reply) as server:
        found = explored(server, chat, RolloutConfig(search_seconds=0.3), tmp_path / "t.jsonl")
        over.set()
    assert {trajectory.stop_reason for trajectory in found} == {StopReason.RETRIEVAL_FAILED}
    assert all("no answer within 0.3 s" in (trajectory.stop_detail or "") for trajectory in found)
    assert all(trajectory.cost.search_seconds < 10 for trajectory in found), "nobody waits for the server"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Bad gateway</html>", b"[]", b'{"result": 7}', b'{"result": [[{"document": 1}]]}', b"\xff" * 99],
)
def test_a_server_that_talks_nonsense(chat: ChatFormat, tmp_path: Path, body: bytes) -> None:
    with serving(lambda asked: (200, {}, body)) as server:
        found = explored(server, chat, RolloutConfig(search_retries=0), tmp_path / "t.jsonl")
    assert {trajectory.stop_reason for trajectory in found} == {StopReason.RETRIEVAL_FAILED}
    assert all("not an answer of a search-r1 server" in (trajectory.stop_detail or "") for trajectory in found)
