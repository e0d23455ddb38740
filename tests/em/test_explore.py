"""The journal of an exploration: cut off anywhere, it is continued to the same result."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import AliasScore, StopReason, Trajectory
from exsearch.config import AgentConfig, ExploreConfig, RolloutConfig, WeighConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.core.seeds import derive_seed
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Passage
from exsearch.em.explore import explore, relative_error
from exsearch.em.weigh import summarise, weigh
from exsearch.engine.base import Completion, Sampling, Seat
from exsearch.engine.hf.engine import HFEngine
from exsearch.questions.question import Question
from scripted import ScriptedEngine, StaticRetriever, opener_of
from scripted_exploration import QUESTIONS, by_seed, timeless
from tiny_models import tiny_llama
from unsealed import plain

CONFIG = ExploreConfig(samples=3)
LIMITS = RolloutConfig(in_flight=4)
AGENT = AgentConfig(max_steps=2, passages=1, turn_tokens=16, context=512)


@pytest.fixture(scope="module")
def agent(chat: ChatFormat) -> Agent:
    return Agent(ScriptedEngine(chat, by_seed), StaticRetriever([Passage("a", "A", "text")]), chat, AGENT, LIMITS)


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
    assert timeless(list(read_jsonl(journal, Trajectory))) == timeless(trajectories)


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
    # What was finished is not run again: count the first turns of what was.
    assert agent.engine.turns.count(0) == 15 - content[:cut].count(b"\n")


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
    journal.write_bytes(plain(whole[0]).replace(b'"scripted"', b'"other"'))
    with pytest.raises(UsageError, match="another model or index: model other, not scripted"):
        explore(agent, QUESTIONS, CONFIG, 3, journal)


class Talkative:
    """A seat of a real random model that is made to follow the grammar by its first tokens."""

    def __init__(self, seat: Seat, chat: ChatFormat) -> None:
        self.seat, self.chat = seat, chat
        self.logprobs, self.close = seat.logprobs, seat.close

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        said = await self.seat.generate(prompt, Sampling(3, [], sampling.temperature), seed)
        opener = opener_of(self.chat)
        turn = sum(prompt[i : i + len(opener)] == opener for i in range(len(prompt)))
        before, after = [("<QUERY>", ""), ("<FACT>", " <FINAL>"), ("", "")][turn - 1]
        left, right = self.chat.encode(before), [*self.chat.encode(after), self.chat.stop_id]
        ids, zeros = left + said.token_ids + right, [0.0] * (len(left) + len(right))
        return Completion(ids, said.logprobs + zeros, "stop")


class TalkativeEngine(HFEngine):
    """Opens talkative seats."""

    def __init__(self, chat: ChatFormat) -> None:
        super().__init__(tiny_llama(len(chat.tokenizer), spread=0.3), "talkative", seats=6)
        self.chat = chat

    def open(self) -> Talkative:  # type: ignore[override]
        return Talkative(super().open(), self.chat)


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


def test_an_exploration_stops_sampling_a_question_whose_weights_are_settled(agent: Agent, tmp_path: Path) -> None:
    config = ExploreConfig(samples=12, first_samples=2, settled=0.5)
    found = explore(agent, QUESTIONS, config, 3, tmp_path / "adaptive.jsonl")
    drawn = {q.id: [t for t in found if t.question_id == q.id] for q in QUESTIONS}
    counts = {id: len(group) for id, group in drawn.items()}
    assert all(count % 2 == 0 for count in counts.values())
    assert min(counts.values()) < 12
    for group in drawn.values():
        assert [t.sample for t in group] == list(range(len(group)))
        earlier = [relative_error(group[:stop]) for stop in range(2, len(group), 2)]
        assert all(error >= config.settled for error in earlier)
        assert len(group) == 12 or relative_error(group) < config.settled
    whole = explore(agent, QUESTIONS, ExploreConfig(samples=12), 3, tmp_path / "whole.jsonl")
    same = [t for t in whole if t.sample < counts[t.question_id]]
    assert timeless(found) == timeless(same), "the samples themselves are those of a whole exploration"


def test_a_mean_of_equal_samples_is_settled_and_one_of_a_lucky_hit_is_not(
    whole: tuple[bytes, list[Trajectory]],
) -> None:
    [answered, *_] = [t for t in whole[1] if t.alias_scores]

    def sampled(*logprobs: float | None) -> list[Trajectory]:
        scores = [[] if value is None else [AliasScore("a", value, 2)] for value in logprobs]
        return [msgspec.structs.replace(answered, sample=n, alias_scores=s) for n, s in enumerate(scores)]

    assert relative_error(sampled(-1.0, -1.0)) == 0
    assert relative_error(sampled(-700.0, -700.0)) == 0, "also far below what a float holds"
    assert relative_error(sampled(-1.0, -9.0, None)) > 0.9
    assert relative_error(sampled(-1.0)) == relative_error(sampled(None, None)) == float("inf")


@pytest.fixture(scope="module")
def branched(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Trajectory]]:
    journal = tmp_path_factory.mktemp("branched") / "trajectories.jsonl"
    config = ExploreConfig(samples=6, branches=3, branch_gain=0.2)
    return journal, explore(agent, QUESTIONS, config, 3, journal)


def test_branches_share_their_beginning_and_what_one_sample_counts(
    branched: tuple[Path, list[Trajectory]], chat: ChatFormat
) -> None:
    families: dict[tuple[str, int], list[Trajectory]] = {}
    for trajectory in branched[1]:
        families.setdefault((trajectory.question_id, trajectory.sample), []).append(trajectory)
    assert len(families) == len(QUESTIONS) * 6
    assert {len(family) for family in families.values()} == {1, 3}
    for family in families.values():
        assert sum(t.share for t in family) == pytest.approx(1)
        assert len({t.seed for t in family}) == len(family)
        if len(family) > 1:
            common = [
                step
                for step, *others in zip(*(t.steps for t in family), strict=False)
                if all(other.query == step.query for other in others)
            ]
            assert common and common[0].answer_logprob is not None
    content = branched[0].read_bytes()
    written = [(t.question_id, t.sample) for t in read_jsonl(branched[0], Trajectory)]
    families_in_order = [key for number, key in enumerate(written) if number == 0 or written[number - 1] != key]
    assert len(families_in_order) == len(families), "a family is written together"
    assert content.endswith(b"\n")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.8])
def test_a_cut_journal_with_branches_is_completed_to_the_same_trajectories(
    agent: Agent, branched: tuple[Path, list[Trajectory]], tmp_path: Path, kept: float
) -> None:
    content = branched[0].read_bytes()
    journal = tmp_path / "cut.jsonl"
    journal.write_bytes(content[: int(len(content) * kept)])
    again = explore(agent, QUESTIONS, ExploreConfig(samples=6, branches=3, branch_gain=0.2), 3, journal)
    assert timeless(again) == timeless(branched[1])
    keys = [t.label for t in read_jsonl(journal, Trajectory)]
    assert len(keys) == len(set(keys))


def as_written_once(line: bytes) -> bytes:
    """A line of a journal from before branches had a number of their own: that was folded into the sample's."""
    record = json.loads(line)
    record["sample"] += record.pop("branch") * 1_000_000
    return json.dumps(record).encode() + b"\n"


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 1.0])
def test_a_journal_that_folds_branches_into_samples_is_continued_to_the_same_trajectories(
    agent: Agent, branched: tuple[Path, list[Trajectory]], tmp_path: Path, kept: float
) -> None:
    assert {t.branch for t in branched[1]} == {0, 1, 2}
    content = b"".join(map(as_written_once, branched[0].read_bytes().splitlines()))
    assert b'"sample": 2000004,' in content and b'"branch"' not in content
    journal = tmp_path / "folded.jsonl"
    journal.write_bytes(content[: int(len(content) * kept)])
    shutil.copy(f"{branched[0]}.origin.json", f"{journal}.origin.json")
    again = explore(agent, QUESTIONS, ExploreConfig(samples=6, branches=3, branch_gain=0.2), 3, journal)
    assert timeless(again) == timeless(branched[1])
    assert [t.label for t in again] == [t.label for t in branched[1]], "in the same order"
    assert all(t.seed == derive_seed(3, t.question_id, t.sample + 1_000_000 * t.branch) for t in again)
    if kept == 1.0:
        assert journal.read_bytes() == content, "what is complete stays as it was written"
    assert weigh(again, QUESTIONS, WeighConfig()) == weigh(branched[1], QUESTIONS, WeighConfig())


def test_scored_steps_tell_what_each_fact_was_worth(agent: Agent, tmp_path: Path) -> None:
    plain = explore(agent, QUESTIONS, ExploreConfig(samples=6), 3, tmp_path / "plain.jsonl")
    scored = explore(agent, QUESTIONS, ExploreConfig(samples=6, score_steps=True), 3, tmp_path / "scored.jsonl")
    assert any(t.opening_logprob is not None for t in scored)
    for trajectory in scored:
        # a step is scored when the next query follows its fact; after the last one stands the answer itself
        for step, following in zip(trajectory.steps, trajectory.steps[1:], strict=False):
            assert (step.answer_logprob is not None) and following.query
    unscored = [
        msgspec.structs.replace(
            t, opening_logprob=None, steps=[msgspec.structs.replace(s, answer_logprob=None) for s in t.steps]
        )
        for t in scored
    ]
    assert timeless(unscored) == timeless(plain), "scoring changes nothing else"
    opened = explore(agent, QUESTIONS, ExploreConfig(samples=6, score_opening=True), 3, tmp_path / "opened.jsonl")
    assert [t.opening_logprob for t in opened] == [t.opening_logprob for t in scored]
    assert all(step.answer_logprob is None for t in opened for step in t.steps)


def test_a_damaged_line_of_a_journal_is_named_set_aside_and_made_again(
    agent: Agent, whole: tuple[bytes, list[Trajectory]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = whole[0].splitlines(keepends=True)
    lines[4] = b'{"question_id": 3}\n'
    journal = tmp_path / "trajectories.jsonl"
    journal.write_bytes(b"".join(lines))
    assert timeless(explore(agent, QUESTIONS, CONFIG, 3, journal)) == timeless(whole[1])
    assert "trajectories.jsonl, line 5: " in caplog.text
    assert (tmp_path / "trajectories.jsonl.damaged").read_bytes() == lines[4]
    assert len(list(read_jsonl(journal, Trajectory))) == len(lines)


def test_what_an_outage_failed_is_made_again_and_the_rest_is_not(
    chat: ChatFormat, whole: tuple[bytes, list[Trajectory]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "trajectories.jsonl"
    queries = {step.query for trajectory in whole[1] for step in trajectory.steps}
    retriever = StaticRetriever([Passage("a", "A", "text")], fails_for=min(queries))
    agent = Agent(ScriptedEngine(chat, by_seed), retriever, chat, AGENT, RolloutConfig(search_retries=0))
    failed = [t for t in explore(agent, QUESTIONS, CONFIG, 3, journal) if t.failed]
    assert 0 < len(failed) < len(whole[1])
    retriever.fails_for = None
    before = journal.read_bytes()
    with pytest.raises(UsageError, match="seed = 3 -> 4"):
        explore(agent, QUESTIONS, CONFIG, 4, journal)
    assert journal.read_bytes() == before
    assert timeless(explore(agent, QUESTIONS, CONFIG, 3, journal)) == timeless(whole[1])
    assert f"{len(failed)} trajectories had failed and are rolled out again" in caplog.text
    assert timeless(list(read_jsonl(journal, Trajectory))) == timeless(whole[1])


def test_a_question_without_answers_is_explored_and_counts_as_skipped(agent: Agent, tmp_path: Path) -> None:
    questions = [Question("open", "What is number 1?", []), QUESTIONS[1]]
    found = explore(agent, questions, CONFIG, 3, tmp_path / "trajectories.jsonl")
    assert {t.question_id for t in found if t.stop_reason == StopReason.ANSWERED} >= {"open"}
    weighted = weigh(found, questions, WeighConfig())
    assert all(w.weight == 0 for w in weighted if w.question_id == "open")
    assert summarise(weighted).skipped >= 1


def test_an_error_that_ends_an_exploration_is_that_error_and_what_was_finished_is_kept(
    agent: Agent, whole: tuple[bytes, list[Trajectory]], tmp_path: Path
) -> None:
    class Lost:
        model_fingerprint, index_fingerprint, in_flight = agent.model_fingerprint, agent.index_fingerprint, 2
        settings, grammar, opening = agent.settings, agent.grammar, agent.opening
        left = 7

        async def trajectories(self, question: Question, sample: int, draw: Draw) -> list[Trajectory]:
            self.left -= 1
            if self.left < 0:
                raise ExSearchError("all workers were lost")
            return await agent.trajectories(question, sample, draw)

        def close(self) -> None:
            """Nothing is held."""

    journal = tmp_path / "trajectories.jsonl"
    with pytest.raises(ExSearchError, match="all workers were lost"):
        explore(Lost(), QUESTIONS, CONFIG, 3, journal)
    assert 0 < journal.read_bytes().count(b"\n") <= 7
    assert timeless(explore(agent, QUESTIONS, CONFIG, 3, journal)) == timeless(whole[1])
