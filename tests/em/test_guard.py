"""The guard: a step that makes held-out answers less likely is shortened or refused, and nothing is forgotten."""

import itertools
import random
import re
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import AliasScore, StopReason, Trajectory
from exsearch.config import AgentConfig, RolloutConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Passage
from exsearch.em.guard import Decision, Guard, Standing, judge, standing_of
from exsearch.questions.question import Question
from scripted import ScriptedEngine, StaticRetriever

AGENT = AgentConfig(max_steps=2, passages=1, turn_tokens=16, context=512)
QUESTIONS = [Question(f"q{n}", f"What is number {n}?", ["the answer"]) for n in range(8)]
GREEDY = Draw(seed=0, temperature=0.0, score_answers=True)


class Model(ScriptedEngine):
    """Answers all questions, but makes the gold answer as likely as it is good, and breaks the grammar if it is not."""

    def __init__(self, chat: ChatFormat, name: str, goodness: float) -> None:
        super().__init__(chat, self.turns_of)
        self.fingerprint, self.goodness = name, goodness

    def turns_of(self, prompt: str, turn: int, seed: int) -> str:
        if self.goodness < 0:
            return "nonsense"
        return ["<QUERY> numbers", "<FACT> known <FINAL>", "another"][turn]

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        number = int(self.chat.decode(prefix).split("What is number ")[1].split("?")[0])
        return [-1.0 / (self.goodness + 0.01 * number)] + [0.0] * (len(target) - 1)


class Bench:
    """Scripted models by the path of their checkpoint, and a guard that asks them."""

    def __init__(self, chat: ChatFormat, folder: Path, goodness: dict[str, float], samples: int = 1) -> None:
        self.chat, self.goodness = chat, goodness
        self.asked: list[tuple[str, str]] = []
        self.left = 10**9
        self.guard = Guard(QUESTIONS, folder, GREEDY, samples, self.agents_for)

    def agents_for(self, checkpoint: Path) -> Agent:
        model = Model(self.chat, checkpoint.name, self.goodness[checkpoint.name])
        limits = RolloutConfig(in_flight=1, search_retries=0)
        agent = Agent(model, StaticRetriever([Passage("a", "A", "text")]), self.chat, AGENT, limits)
        run = agent.trajectories

        async def counted(question: Question, sample: int, draw: Draw) -> list[Trajectory]:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.asked.append((checkpoint.name, question.id))
            return await run(question, sample, draw)

        agent.trajectories = counted  # type: ignore[method-assign, assignment]
        return agent

    def decide(self) -> Decision:
        names = {1.0: "whole", 0.5: "half", 0.25: "quarter"}
        return self.guard.decide("iter-2", "iter-1-whole", Path("old"), lambda share: Path(names[share]))


@pytest.mark.parametrize(
    ("goodness", "tried", "said"),
    [
        ({"whole": 1.0}, [1.0], r"was taken whole: p\(answer\) 0\.15 -> 0\.38$"),
        ({"whole": 0.2, "half": 0.9}, [1.0, 0.5], r"was shortened by half: p\(answer\) 0\.15 -> 0\.3\d"),
        (
            {"whole": -1, "half": 0.4, "quarter": 0.5},
            [1.0, 0.5, 0.25],
            r"was shortened to a quarter: .*0\.15 -> 0\.15",
        ),
        (
            {"whole": -1, "half": 0.4, "quarter": 0.45},
            [1.0, 0.5, 0.25],
            r"was refused: p\(answer\) 0\.\d+ -> 0\.00 \(whole\), 0\.\d+ -> 0\.\d+ \(half\), .* \(quarter\)",
        ),
    ],
    ids=["whole", "half", "quarter", "refused"],
)
def test_the_longest_part_of_a_step_that_does_not_lower_the_answers_is_taken(
    chat: ChatFormat, tmp_path: Path, goodness: dict[str, float], tried: list[float], said: str
) -> None:
    bench = Bench(chat, tmp_path, {"old": 0.5, **goodness})
    decision = bench.decide()
    assert [each.share for each in decision.tries] == tried
    assert re.match(f"iteration 2 {said}", decision.sentence), decision.sentence
    assert [each.taken for each in decision.tries[:-1]] == [False] * (len(tried) - 1)
    assert (decision.taken is None) == ("refused" in said)
    assert len([id_ for model, id_ in bench.asked if model == "old"]) == 8, "all are asked of the model before, once"
    for each, name in zip(decision.tries, ("whole", "half", "quarter"), strict=False):
        asked = [id_ for model, id_ in bench.asked if model == name]
        assert len(asked) == each.questions == (8 if each.taken else 4), "a clearly worse one is asked half"


def test_a_model_whose_every_trajectory_is_malformed_counts_as_0(chat: ChatFormat, tmp_path: Path) -> None:
    bench = Bench(chat, tmp_path, {"old": -1, "whole": -1, "half": 0.5, "quarter": 0})
    decision = bench.decide()
    assert decision.taken and decision.taken.share == 1.0, "as bad as before is no fall"
    assert (decision.taken.before, decision.taken.after, decision.taken.malformed) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("stop", [0, 3, 8, 10, 12, 15, 20])
def test_a_guard_that_is_stopped_anywhere_decides_as_if_it_had_not_been(
    chat: ChatFormat, tmp_path: Path, stop: int
) -> None:
    goodness = {"old": 0.5, "whole": -1, "half": 0.9, "quarter": 0}
    expected = Bench(chat, tmp_path / "whole", goodness).decide()
    bench = Bench(chat, tmp_path / "broken", goodness)
    bench.left = stop
    try:
        bench.decide()
    except KeyboardInterrupt:
        bench.left = 10**9
        assert bench.decide() == expected
    else:
        assert stop >= 20
    assert len(bench.asked) == len(set(bench.asked)) == 20, "nothing is asked twice"


def test_several_samples_are_averaged_and_drawn_alike_from_both_models(chat: ChatFormat, tmp_path: Path) -> None:
    bench = Bench(chat, tmp_path, {"old": 0.5, "whole": 1.0, "half": 0, "quarter": 0}, samples=3)
    decision = bench.decide()
    assert decision.taken
    rolled = list(read_jsonl(tmp_path / "iter-2-whole" / "trajectories.jsonl", Trajectory))
    before = list(read_jsonl(tmp_path / "iter-1-whole" / "trajectories.jsonl", Trajectory))
    assert sorted(t.seed for t in rolled) == sorted(t.seed for t in before) and len(rolled) == 24
    assert len(bench.guard.standing("iter-2-whole", Path("whole")).probability) == 8


def trajectory(stop: StopReason, answer: str | None, scores: list[AliasScore]) -> Trajectory:
    return Trajectory("q", 0, [], answer, stop, [1], [1], [0.0], None, 0, "m", "i", scores)


def test_the_standing_has_0_where_there_is_no_answer() -> None:
    found = standing_of(
        QUESTIONS[:3],
        [
            [trajectory(StopReason.ANSWERED, "the answer", [AliasScore("the answer", 0.0, 2)])],
            [trajectory(StopReason.MALFORMED, None, [])],
            [
                trajectory(StopReason.ANSWERED, "no", [AliasScore("the answer", -1e9, 2)]),
                trajectory(StopReason.ANSWERED, "the answer", []),  # no room for the gold answer after it
            ],
        ],
    )
    assert found == Standing([1.0, 0.0, 0.0], [1.0, 0.0, 0.5], [1.0, 0.0, 0.5], 0.25)
    assert (found.mean, found.merit) == (pytest.approx(1 / 3), pytest.approx((0.5 + 1 / 3) / 2))


def test_an_engine_that_does_not_score_cannot_guard() -> None:
    with pytest.raises(UsageError, match=r"loop\.guard needs an engine that scores gold answers"):
        standing_of(QUESTIONS[:1], [[trajectory(StopReason.ANSWERED, "the answer", [])]])


def test_an_outage_is_no_verdict(chat: ChatFormat, tmp_path: Path) -> None:
    bench = Bench(chat, tmp_path, {"old": 0.5, "whole": 1.0, "half": 0, "quarter": 0})
    agents_for = bench.agents_for

    def failing(checkpoint: Path) -> Agent:
        agent = agents_for(checkpoint)
        if checkpoint.name == "whole":
            agent._search_queue._retriever = StaticRetriever([], fails_for="numbers")
        return agent

    bench.guard._agents_for = failing
    with pytest.raises(ExSearchError, match="trajectories failed"):
        bench.decide()
    bench.guard._agents_for = agents_for
    decision = bench.decide()
    assert decision.taken and decision.taken.share == 1.0


differences = st.lists(st.floats(-1, 1), min_size=2, max_size=60)


@given(differences, st.integers(1, 100))
def test_a_step_is_taken_only_when_all_have_been_asked_and_the_mean_has_not_fallen(
    found: list[float], more: int
) -> None:
    assert judge(found, len(found)) == (statistics.fmean(found) >= 0)
    early = judge(found, len(found) + more)
    assert early in (None, False)
    if statistics.fmean(found) >= 0:
        assert early is None


def refused(rise: float, size: int, draws: int = 1500) -> float:
    """How often a step is refused that raises p(y | x, z) by `rise` on average, with a spread as measured: 0.38."""
    source = random.Random(7)
    half = (size + 1) // 2
    count = 0
    for _ in range(draws):
        drawn = [source.gauss(rise, 0.38) for _ in range(size)]
        verdict = judge(drawn[:half], size)
        count += not (judge(drawn, size) if verdict is None else verdict)
    return count / draws


def test_more_questions_refuse_bad_steps_more_often_and_good_ones_less_often() -> None:
    bad, good = ([refused(rise, size) for size in (16, 40, 80, 160)] for rise in (-0.1, 0.05))
    assert all(a < b for a, b in itertools.pairwise(bad)) and all(a > b for a, b in itertools.pairwise(good))
    assert bad[2] > 0.98 and good[2] < 0.15
    asked_early = refused(0.0, 80)
    assert 0.45 < asked_early < 0.56, "looking early refuses few more of the steps that change nothing"
