"""The journal of an exploration: cut off anywhere, it is continued to the same result."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import ExSearchGrammar
from exsearch.agent.rollout import Agent
from exsearch.agent.trajectory import Step, StopReason, Trajectory
from exsearch.config import AgentConfig, ExploreConfig
from exsearch.corpus.passage import Passage
from exsearch.data.question import Question
from exsearch.em.explore import explore
from exsearch.engine.base import Completion, Sampling, TokenIds
from exsearch.engine.hf import HFEngine
from exsearch.errors import UsageError
from exsearch.files import read_jsonl
from scripted import ScriptedEngine, StaticRetriever
from tiny_models import tiny_llama

QUESTIONS = [Question(f"q{n}", f"What is number {n}?", [f"the {n}th"]) for n in range(5)]
CONFIG = ExploreConfig(samples=3, batch_size=4)
AGENT = AgentConfig(max_steps=2, passages=1, turn_tokens=16, context=512)


ANSWER_REQUEST = ExSearchGrammar().final_request("")


def by_seed(prompt: str, turn: int, seed: int) -> str:
    """A model that asks, ends, answers or talks nonsense as its seed has it."""
    if ANSWER_REQUEST in prompt:
        return f"the {seed % 7}th"
    if seed % 5 == 0:
        return "nonsense"
    if turn == 0:
        return f"<QUERY> about {seed % 100}"
    return f"<FACT> {seed % 50} <FINAL>" if seed % 2 else f"<FACT> f <QUERY> q{seed % 9}"


@pytest.fixture(scope="module")
def agent(chat: ChatFormat) -> Agent:
    return Agent(ScriptedEngine(chat, by_seed), StaticRetriever([Passage("a", "A", "text")]), chat, AGENT)


def timeless(trajectories: list[Trajectory]) -> list[Trajectory]:
    """The trajectories without their clock readings."""
    return [
        msgspec.structs.replace(t, steps=[Step(s.query, s.hits, s.evidence) for s in t.steps]) for t in trajectories
    ]


@pytest.fixture(scope="module")
def whole(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Trajectory]]:
    journal = tmp_path_factory.mktemp("whole") / "trajectories.jsonl"
    trajectories = explore(agent, QUESTIONS, CONFIG, 3, journal)
    return journal.read_bytes(), trajectories


def test_an_exploration_samples_every_question_in_order(whole: tuple[bytes, list[Trajectory]], tmp_path: Path) -> None:
    content, trajectories = whole
    assert [(t.question_id, t.sample) for t in trajectories] == [(q.id, k) for q in QUESTIONS for k in range(3)]
    assert len({t.stop_reason for t in trajectories}) >= 3, "the script should end in several ways"
    assert len({msgspec.json.encode(timeless([t])[0].steps) for t in trajectories}) > 5
    assert all(bool(t.alias_scores) == (t.stop_reason == StopReason.ANSWERED) for t in trajectories)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(content)
    assert list(read_jsonl(journal, Trajectory)) == trajectories


@settings(max_examples=40)
@given(st.data())
def test_a_journal_cut_at_any_byte_is_completed_to_the_same_trajectories(
    agent: Agent,
    whole: tuple[bytes, list[Trajectory]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    content, trajectories = whole
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    near = st.sampled_from(ends).flatmap(lambda end: st.integers(max(end - 2, 0), min(end + 1, len(content))))
    cut = data.draw(st.integers(0, len(content)) | near)
    journal = tmp_path_factory.mktemp("cut") / "trajectories.jsonl"
    journal.write_bytes(content[:cut])
    assert isinstance(agent.engine, ScriptedEngine)
    agent.engine.turns.clear()
    assert timeless(explore(agent, QUESTIONS, CONFIG, 3, journal)) == timeless(trajectories)
    kept = max((end for end in ends if end <= cut), default=0)
    assert journal.read_bytes()[:kept] == content[:kept], "finished lines stay as they are"
    assert timeless(list(read_jsonl(journal, Trajectory))) == timeless(trajectories)
    # Groups of four that were finished are not run again: count the first turns of those that were.
    finished_groups = content[:cut].count(b"\n") // CONFIG.batch_size if cut < len(content) else 4
    assert agent.engine.turns.count(0) == 15 - min(15, finished_groups * CONFIG.batch_size)


def test_a_complete_journal_costs_no_model_call(
    agent: Agent, whole: tuple[bytes, list[Trajectory]], tmp_path: Path
) -> None:
    journal = tmp_path / "trajectories.jsonl"
    journal.write_bytes(whole[0])
    assert isinstance(agent.engine, ScriptedEngine)
    calls = agent.engine.calls
    assert explore(agent, QUESTIONS, CONFIG, 3, journal) == whole[1]
    assert agent.engine.calls == calls
    assert journal.read_bytes() == whole[0]


def test_a_journal_of_another_run_is_refused(
    agent: Agent, whole: tuple[bytes, list[Trajectory]], tmp_path: Path
) -> None:
    journal = tmp_path / "trajectories.jsonl"
    journal.write_bytes(whole[0])
    with pytest.raises(UsageError, match="another seed"):
        explore(agent, QUESTIONS, CONFIG, 4, journal)
    journal.write_bytes(whole[0].replace(b'"scripted"', b'"other"'))
    with pytest.raises(UsageError, match="another model or index"):
        explore(agent, QUESTIONS, CONFIG, 3, journal)


class TalkativeEngine(HFEngine):
    """A real random model that is made to follow the grammar by its first tokens."""

    def __init__(self, chat: ChatFormat) -> None:
        super().__init__(tiny_llama(len(chat.tokenizer), spread=0.3), "talkative")
        self.chat = chat

    def generate(self, prompts: list[TokenIds], sampling: Sampling, seeds: list[int]) -> list[Completion]:
        said = super().generate(prompts, Sampling(3, [], sampling.temperature), seeds)
        opener = self.chat.open_assistant
        turns = [sum(p[i : i + len(opener)] == opener for i in range(len(p))) for p in prompts]
        forms = [("<QUERY>", ""), ("<FACT>", " <FINAL>"), ("", "")]
        return [self._frame(completion, *forms[turn - 1]) for completion, turn in zip(said, turns, strict=True)]

    def _frame(self, said: Completion, before: str, after: str) -> Completion:
        left, right = self.chat.encode(before), [*self.chat.encode(after), self.chat.stop_id]
        ids, zeros = left + said.token_ids + right, [0.0] * (len(left) + len(right))
        return Completion(ids, said.logprobs + zeros, "stop")


@pytest.mark.parametrize("lines_kept", [0, 1, 5, 8, 11])
def test_a_real_model_continues_a_cut_journal_to_the_same_bits(
    chat: ChatFormat, tmp_path: Path, lines_kept: int
) -> None:
    def run(journal: Path) -> list[Trajectory]:
        agent = Agent(TalkativeEngine(chat), StaticRetriever([Passage("a", "A", "text")]), chat, AGENT)
        return timeless(explore(agent, QUESTIONS[:4], CONFIG, 5, journal))

    expected = run(tmp_path / "whole.jsonl")
    assert {t.stop_reason for t in expected} == {StopReason.ANSWERED}
    content = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_bytes(b"".join(content[:lines_kept]) + content[lines_kept][:40])
    assert run(tmp_path / "cut.jsonl") == expected
