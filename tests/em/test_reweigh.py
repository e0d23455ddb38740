"""Trajectories of an earlier model under the present one: scored again, and weighed by truncated importance ratios."""

import asyncio
import itertools
import math
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import Trajectory
from exsearch.config import AgentConfig, RolloutConfig, WeighConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Passage
from exsearch.em.reweigh import Reweighed, log_ratio, ratios_worth, reweigh, with_ratios
from exsearch.em.weigh import weigh
from exsearch.engine.base import EngineError
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.models.checkpoint import load_model
from exsearch.questions.question import Question
from exsearch.runs.weighted import Weighted
from scripted import ScriptedEngine, StaticRetriever, lines
from tiny_models import tiny_llama

AGENT = AgentConfig(max_steps=2, passages=1, turn_tokens=16, context=512)
QUESTION = Question("q", "What is number 3?", ["the third", "3"])
TURNS = lines("<QUERY> number 3", "<FACT> it is 3 <FINAL>", "the third")
DRAW = Draw(seed=0, temperature=1.0, score_answers=True, score_opening=True)


def agent_of(engine: object, chat: ChatFormat) -> Agent:
    retriever = StaticRetriever([Passage("a", "A", "text")])
    return Agent(engine, retriever, chat, AGENT, RolloutConfig(in_flight=4))  # type: ignore[arg-type]


@pytest.fixture
def said(chat: ChatFormat) -> Trajectory:
    """An answered trajectory of a scripted model."""
    [found] = asyncio.run(agent_of(ScriptedEngine(chat, TURNS), chat).trajectories(QUESTION, 0, DRAW))
    return found


def test_the_model_that_said_it_scores_a_trajectory_as_it_did(chat: ChatFormat, said: Trajectory) -> None:
    again = asyncio.run(agent_of(ScriptedEngine(chat, TURNS), chat).rescored(QUESTION, said))
    assert msgspec.structs.replace(again, cost=said.cost) == said


def test_another_model_scores_it_as_its_plain_forward_pass_does(
    chat: ChatFormat, said: Trajectory, tiny_checkpoint: Path
) -> None:
    model = tiny_llama(len(chat.tokenizer), seed=3)
    engine = HFEngine(model, "other", 4)
    agent = agent_of(engine, chat)
    try:
        found = asyncio.run(agent.rescored(QUESTION, said))
    finally:
        agent.close()
    plain = load_model(tiny_checkpoint, torch.float32)
    plain.load_state_dict(tiny_llama(len(chat.tokenizer), seed=3).state_dict())

    def logprobs(ids: TokenIds) -> torch.Tensor:
        with torch.no_grad():
            steps = plain(torch.tensor([ids])).logits[0, :-1].log_softmax(dim=1)
        return steps.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]

    expected = [0.0, *logprobs(said.token_ids).tolist()]
    for place, spoken in enumerate(said.loss_mask):
        assert found.logprobs[place] == pytest.approx(expected[place] if spoken else 0.0, abs=1e-3)
    start = said.answer_start
    assert start is not None and len(found.alias_scores) == 2
    for score in found.alias_scores:
        target = [*chat.encode(score.alias), chat.stop_id]
        assert score.logprob == pytest.approx(
            float(logprobs(said.token_ids[:start] + target)[start - 1 :].sum()), abs=1e-2
        )
    assert found.opening_logprob is not None and found.opening_logprob != said.opening_logprob
    assert (found.token_ids, found.model_fingerprint) == (said.token_ids, "other")


class OtherEngine(ScriptedEngine):
    """Finds everything that was said less likely, and the answers likelier."""

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        return [value - 0.01 for value in self._logprobs(len(prefix), target)]


class FailingEngine(ScriptedEngine):
    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        raise EngineError("out of order")


def test_weights_under_another_model_are_ratio_times_answer_probability(chat: ChatFormat, tmp_path: Path) -> None:
    def by_seed(prompt: str, turn: int, seed: int) -> str:
        return ["<QUERY> number 3" + " again" * (seed % 3), "<FACT> it is 3 <FINAL>", "the third"][turn]

    agent = agent_of(ScriptedEngine(chat, by_seed), chat)
    found = [t for k in range(4) for t in asyncio.run(agent.trajectories(QUESTION, k, DRAW))]
    other = agent_of(OtherEngine(chat, by_seed), chat)
    records = reweigh(other, found, [QUESTION], WeighConfig(), tmp_path / "w.jsonl", "again")
    assert list(read_jsonl(tmp_path / "w.jsonl", Reweighed)) == records
    scored = [asyncio.run(other.rescored(QUESTION, trajectory)) for trajectory in found]
    ratios = [math.exp(min(log_ratio(new, old), math.log(2))) for new, old in zip(scored, found, strict=True)]
    likely = [record.weight for record in weigh(scored, [QUESTION], WeighConfig())]
    products = [ratio * p for ratio, p in zip(ratios, likely, strict=True)]
    assert [record.ratio for record in records] == pytest.approx(ratios)
    assert [record.weight for record in records] == pytest.approx([each / sum(products) for each in products])
    assert len(set(ratios)) > 1 and all(ratio < 1 for ratio in ratios)
    stop = found[0].answer_start
    said = sum(found[0].loss_mask[:stop])
    assert log_ratio(scored[0], found[0]) == pytest.approx(-0.01 * said, abs=1e-4)


def test_a_model_that_cannot_score_is_an_outage_and_leaves_no_weights(
    chat: ChatFormat, said: Trajectory, tmp_path: Path
) -> None:
    agent = agent_of(FailingEngine(chat, TURNS), chat)
    with pytest.raises(ExSearchError, match="1 of 1 trajectories failed, the first, of 'q', with: out of order"):
        reweigh(agent, [said], [QUESTION], WeighConfig(), tmp_path / "w.jsonl", "again")
    assert not (tmp_path / "w.jsonl").exists()
    with pytest.raises(UsageError, match="'q', which is not among the questions"):
        reweigh(agent, [said], [], WeighConfig(), tmp_path / "w.jsonl", "again")


def weighed(weights: list[float]) -> list[Weighted]:
    return [Weighted("q", k, -1.0, 1.0, 1.0, weight, None) for k, weight in enumerate(weights)]


groups = st.lists(st.tuples(st.floats(0.01, 1), st.floats(-2000, 50)), min_size=1, max_size=8)


@given(groups)
def test_the_weights_of_a_question_keep_their_sum_and_follow_the_ratios(group: list[tuple[float, float]]) -> None:
    weights, logs = [weight for weight, _ in group], [log for _, log in group]
    found = with_ratios(weighed(weights), logs, unnormalised=False)
    assert math.fsum(record.weight for record in found) == pytest.approx(math.fsum(weights))
    most = 0.5 * math.log(len(group))
    for (a, log_a, new_a), (b, log_b, new_b) in itertools.pairwise(
        zip(weights, logs, (record.weight for record in found), strict=True)
    ):
        if new_a > 1e-12 and new_b > 1e-12:
            expected = math.log(a / b) + min(log_a, most) - min(log_b, most)
            assert math.log(new_a / new_b) == pytest.approx(expected, abs=1e-6)
    assert all(record.ratio <= math.sqrt(len(group)) + 1e-9 for record in found)
    if any(record.ratio > 0 for record in found):
        assert 1 - 1e-9 <= ratios_worth(found) <= len(group) + 1e-9


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.floats(-50, 0))
def test_ratios_that_are_all_alike_change_no_weight(weights: list[float], log: float) -> None:
    found = with_ratios(weighed(weights), [log] * len(weights), unnormalised=False)
    assert [record.weight for record in found] == pytest.approx(weights)
    assert ratios_worth(found) == pytest.approx(len(weights))


def test_what_was_not_scored_weighs_nothing_and_branches_are_no_samples() -> None:
    records = [*weighed([0.5, 0.5]), Weighted("q", 0, -1.0, 1.0, 1.0, 0.0, None, branch=1)]
    found = with_ratios(records, [-math.inf, 5.0, 5.0], unnormalised=False)
    assert [record.weight for record in found] == [0.0, 1.0, 0.0]
    assert found[1].ratio == pytest.approx(math.sqrt(2)), "cut off at the root of two samples, not three"
    nothing = with_ratios(records, [-math.inf] * 3, unnormalised=False)
    assert [record.weight for record in nothing] == [0.0] * 3 and ratios_worth(nothing) == 0.0
    assert [r.weight for r in with_ratios(records, [-1.0, -1.0, -1.0], unnormalised=True)] == pytest.approx(
        [0.5 / math.e, 0.5 / math.e, 0.0]
    )


def test_samples_of_an_earlier_model_stand_for_those_of_the_present_one() -> None:
    torch.manual_seed(0)
    old, new = torch.randn(12).log_softmax(0), torch.randn(12).log_softmax(0)
    answer = -3 * torch.rand(12)
    exact = (new + answer).softmax(0)
    drawn = torch.multinomial(old.exp(), 40_000, replacement=True).tolist()
    unweighed = weighed((answer[drawn]).softmax(0).tolist())
    found = torch.zeros(12)
    for z, record in zip(drawn, with_ratios(unweighed, (new - old)[drawn].tolist(), False), strict=True):
        found[z] += record.weight
    assert float((found - exact).abs().sum()) / 2 < 0.03
    assert float(((old + answer).softmax(0) - exact).abs().sum()) / 2 > 0.15, "without ratios it would not do"
