"""Learning from the rollouts of several E-steps: the objective of stochastic-approximation EM, by reference."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import ExSearchGrammar
from exsearch.agent.rollout import Agent
from exsearch.agent.trajectory import Trajectory
from exsearch.cli.learn import learn
from exsearch.config import AgentConfig, ExploreConfig, LearnConfig, RolloutConfig, WeighConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.corpus.passage import Passage
from exsearch.em.explore import explore
from exsearch.em.learn import weighted_examples
from exsearch.em.replay import Rollouts, decayed, learned_from
from exsearch.em.weigh import weigh
from exsearch.questions.question import Question
from exsearch.runs.weighted import Weighted
from scripted import ScriptedEngine, StaticRetriever

AGENT = AgentConfig(max_steps=2, passages=1, turn_tokens=16, context=512)
DECAY = LearnConfig(replay="decay", min_weight=0.0)
ANSWER_REQUEST = ExSearchGrammar().final_request("")


def asked(*numbers: int) -> list[Question]:
    return [Question(f"q{n}", f"What is number {n}?", [f"the {n}th"]) for n in numbers]


def by_seed(prompt: str, turn: int, seed: int) -> str:
    """A model that asks in one of a few ways and answers in one of a few."""
    if ANSWER_REQUEST in prompt:
        return f"the {seed % 3}th"
    return f"<QUERY> about {seed % 4}" if turn == 0 else "<FACT> known <FINAL>"


Explored = Callable[..., Rollouts]


@pytest.fixture
def explored(chat: ChatFormat, tmp_path: Path) -> Explored:
    """Rolls out and weighs: one E-step of a model of its own."""

    def run(name: str, questions: list[Question], seed: int = 1, samples: int = 3) -> Rollouts:
        engine = ScriptedEngine(chat, by_seed)
        engine.fingerprint = f"model of {name}"
        agent = Agent(engine, StaticRetriever([Passage("a", "A", "text")]), chat, AGENT, RolloutConfig(in_flight=4))
        folder = tmp_path / name
        found = explore(agent, questions, ExploreConfig(samples=samples), seed, folder / "trajectories.jsonl")
        write_jsonl(folder / "weights.jsonl", weigh(found, questions, WeighConfig()))
        return Rollouts(name, folder / "trajectories.jsonl", folder / "weights.jsonl")

    return run


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.floats(0.05, 1))
def test_the_factors_are_those_of_the_recursion(counts: list[int], rate: float) -> None:
    objective: list[float] = []  # the coefficient of each question of each E-step in Q_t
    for number, count in enumerate(counts):
        share = rate if number else 1.0
        objective = [(1 - share) * old for old in objective] + [share / count]
    found = decayed(counts, rate)
    assert found[-1] == 1.0
    assert found == pytest.approx([each / objective[-1] for each in objective])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_a_rate_of_zero_lets_all_e_steps_count_alike(counts: list[int]) -> None:
    assert decayed(counts, 0.0) == pytest.approx([counts[-1] / count for count in counts])


def test_an_m_step_learns_each_e_step_by_its_weights_times_its_factor(explored: Explored, chat: ChatFormat) -> None:
    old, new = explored("old", asked(0, 1, 2, 3)), explored("new", asked(4, 5))
    examples, sources = learned_from([old, new], chat, DECAY)
    [first], [second] = ([s for s in sources if s.name == name] for name in ("old", "new"))
    assert (first.factor, second.factor) == (0.5, 1.0)  # two questions stand for four
    assert first.weight == pytest.approx(0.5 * 4) and second.weight == pytest.approx(2)
    for rollouts, factor in ((old, 0.5), (new, 1.0)):
        trajectories = read_jsonl(rollouts.trajectories, Trajectory)
        alone = weighted_examples(trajectories, list(read_jsonl(rollouts.weights, Weighted)), chat, DECAY)
        for example in alone:
            [same] = [e for e in examples if (e.question_id, e.token_ids) == (example.question_id, example.token_ids)]
            assert same.weight == pytest.approx(factor * example.weight)
    assert len(examples) == first.examples + second.examples


def test_the_same_tokens_in_two_e_steps_are_learned_once_with_both_weights(
    explored: Explored, chat: ChatFormat
) -> None:
    old, new = explored("old", asked(0, 1), samples=8), explored("new", asked(0, 1), seed=2, samples=8)
    examples, sources = learned_from([old, new], chat, DECAY)
    assert len(examples) < sum(source.examples for source in sources)
    assert len({(e.question_id, tuple(e.token_ids)) for e in examples}) == len(examples)
    assert math.fsum(e.weight for e in examples) == pytest.approx(sum(source.weight for source in sources))


def test_without_replay_an_m_step_learns_what_it_learned_before_there_was_one(
    explored: Explored, chat: ChatFormat
) -> None:
    new = explored("new", asked(0, 1, 2))
    trajectories = read_jsonl(new.trajectories, Trajectory)
    before = weighted_examples(trajectories, list(read_jsonl(new.weights, Weighted)), chat, LearnConfig())
    assert learned_from([new], chat, LearnConfig())[0] == before


def test_an_e_step_that_hardly_counts_any_more_is_left_out(explored: Explored, chat: ChatFormat) -> None:
    rollouts = [explored(f"e{n}", asked(n)) for n in range(4)]
    config = LearnConfig(replay="decay", replay_rate=0.8, min_weight=0.05)
    assert [source.name for source in learned_from(rollouts, chat, config)[1]] == ["e2", "e3"]


@dataclass(frozen=True)
class Wrong:
    """A journal that does not go with the newest."""

    change: Callable[[Trajectory], Trajectory]
    said: str


def shifted(trajectory: Trajectory) -> Trajectory:
    return msgspec.structs.replace(trajectory, token_ids=[token + 1 for token in trajectory.token_ids])


def beyond(trajectory: Trajectory) -> Trajectory:
    return msgspec.structs.replace(trajectory, token_ids=[*trajectory.token_ids[:-1], 10**6])


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong(
            shifted,
            r"trajectory q0/\d is from another model: decoded with this one's tokenizer, its tokens do not",
        ),
        Wrong(beyond, r"trajectory q0/\d is from another model"),
        Wrong(
            lambda t: msgspec.structs.replace(t, grammar="one-shot"),
            "uses the grammar one-shot, .* in exsearch",
        ),
        Wrong(lambda t: msgspec.structs.replace(t, sample=t.sample + 7), r"trajectory q0/\d+ has no weight"),
    ],
    ids=["tokenizer", "vocabulary", "grammar", "weights"],
)
def test_a_journal_that_does_not_go_with_the_others_is_refused_by_name(
    explored: Explored, chat: ChatFormat, wrong: Wrong
) -> None:
    old, new = explored("old", asked(0)), explored("new", asked(1))
    write_jsonl(old.trajectories, [wrong.change(t) for t in list(read_jsonl(old.trajectories, Trajectory))])
    with pytest.raises(UsageError, match=rf"old/trajectories\.jsonl.*{wrong.said}"):
        learned_from([old, new], chat, DECAY)


def test_a_journal_of_another_question_file_is_refused(explored: Explored, chat: ChatFormat) -> None:
    old, new = explored("old", [Question("q0", "Who is number 0?", ["the 0th"])]), explored("new", asked(0))
    with pytest.raises(UsageError, match=r"old/traj.*: question 'q0' has another text than in .*new/traj"):
        learned_from([old, new], chat, DECAY)


def test_a_journal_that_is_named_twice_is_refused(explored: Explored, chat: ChatFormat, tmp_path: Path) -> None:
    new = explored("new", asked(0))
    copied = tmp_path / "copied.jsonl"
    copied.write_bytes(new.trajectories.read_bytes())
    with pytest.raises(UsageError, match=r"copied\.jsonl: trajectory q0/\d is also in .*; name each journal once"):
        learned_from([Rollouts("copied", copied, new.weights), new], chat, DECAY)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "2 journals, and learn.replay = none; say how much the earlier ones count"),
        (["learn.replay=ratios"], "learn.replay = ratios scores earlier trajectories again"),
    ],
)
def test_the_command_asks_how_earlier_journals_count(
    explored: Explored, tmp_path: Path, settings: list[str], said: str
) -> None:
    old, new = explored("old", asked(0)), explored("new", asked(1))
    files = [str(file) for each in (old, new) for file in (each.trajectories, each.weights)]
    options = [word for setting in settings for word in ("--set", setting)]
    found = CliRunner().invoke(learn, [*files, "--out", str(tmp_path / "out"), *options])
    assert isinstance(found.exception, UsageError) and said in str(found.exception)
    odd = CliRunner().invoke(learn, [*files[:3], "--out", str(tmp_path / "out")])
    assert isinstance(odd.exception, UsageError) and "followed by the file of its weights" in str(odd.exception)
    assert not (tmp_path / "out").exists()


def test_the_command_learns_from_several_journals_and_says_which_count(
    explored: Explored, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    old, new = explored("old", asked(0)), explored("new", asked(1))
    files = [str(file) for each in (old, new) for file in (each.trajectories, each.weights)]
    options = ["--model", str(tiny_checkpoint), "--out", str(tmp_path / "out"), "--set", "learn.replay=decay"]
    found = CliRunner().invoke(learn, [*files, *options], catch_exceptions=False)
    assert (tmp_path / "out" / "config.json").exists()
    for each in (old, new):
        assert re.search(rf"50% of the weight from \d of {re.escape(str(each.trajectories))}\n", found.output)
