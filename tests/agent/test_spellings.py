"""p(y | x, z) is that of accepted answers as strings: the spelling that was sampled counts, and each counts once."""

import asyncio
import math
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from engine_specs import endpoint_spec, spec
from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import AliasScore, Trajectory, answer_logprob
from exsearch.config import AgentConfig, GrammarName, WeighConfig, WeightingName
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Passage
from exsearch.em.weigh import weigh
from exsearch.engine.base import Completion, Engine, Sampling, Seat
from exsearch.engine.batch import generate, logprobs
from exsearch.engine.copies.engine import CopiedEngine
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.openai.engine import OpenAIEngine
from exsearch.evaluation.metrics import answer_scores
from exsearch.questions.question import Question
from openai_server import Endpoint, running
from scripted import ScriptedEngine, StaticRetriever
from tiny_models import save_tiny, tiny_llama

CONFIG = AgentConfig(max_steps=2, passages=1, turn_tokens=40, context=1024)
PASSAGES = [Passage("a", "Blerhill", "The town of Blerhill lies on the river Orm.")]
QUESTION = Question("q", "Which town lies on the Orm?", ["Blerhill", "Town of Blerhill"])
SCORED = Draw(7, 0.5, 0.9, score_answers=True)


def spelled(chat: ChatFormat, text: str) -> TokenIds:
    """The tokens of a text in pieces, each encoded for itself, as a model that copies may say it: `Bl|er|hill`."""
    return [token for piece in text.split("|") for token in chat.encode(piece)]


class Copying(ScriptedEngine):
    """Says the turns of a script, the answer in pieces of its own."""

    def __init__(self, chat: ChatFormat, answer: str, exact: bool = True, scored: bool = True) -> None:
        super().__init__(chat, lambda prompt, turn, seed: ("<QUERY> Orm", "<FACT> It does. <FINAL>", "")[turn])
        self.answer, self.told = answer, (exact, scored)

    def _continue(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        said = super()._continue(prompt, sampling, seed)
        if self.turns[-1] == 2:
            ids = [*spelled(self.chat, self.answer), self.chat.stop_id]
            said = msgspec.structs.replace(said, token_ids=ids, logprobs=self._logprobs(len(prompt), ids))
        exact, scored = self.told
        logprobs = said.logprobs if scored else [0.0] * len(said.logprobs)
        return msgspec.structs.replace(said, logprobs=logprobs, exact=exact, scored=scored)


def roll(chat: ChatFormat, engine: Engine, draw: Draw = SCORED, question: Question = QUESTION) -> Trajectory:
    agent = Agent(engine, StaticRetriever(PASSAGES), chat, CONFIG)
    return agent.rollout([(question, 0)], draw)[0]


def expected(trajectory: Trajectory, ids: TokenIds) -> float:
    """What the scripted engine says of these tokens as the answer."""
    assert trajectory.answer_start is not None
    return round(sum(ScriptedEngine._logprobs(trajectory.answer_start, ids)), 5)


@pytest.mark.parametrize("answer", ["Bl|er|hill", "the |Ble|rhill", "BLERHILL", "Blerhill| ", '"|Blerhill|"'])
def test_a_right_answer_spelled_as_no_alias_is_scored_with_the_tokens_that_were_said(
    chat: ChatFormat, answer: str
) -> None:
    trajectory = roll(chat, Copying(chat, answer))
    text = answer.replace("|", "").strip()
    aliases = [[*chat.encode(alias), chat.stop_id] for alias in QUESTION.answers]
    said = [*spelled(chat, answer), chat.stop_id]
    assert said not in aliases and trajectory.answer == text
    assert trajectory.alias_scores == [
        *(AliasScore(a, expected(trajectory, ids), len(ids)) for a, ids in zip(QUESTION.answers, aliases, strict=True)),
        AliasScore(text, expected(trajectory, said), len(said), said=True),
    ]
    parts = [math.exp(score.logprob) for score in trajectory.alias_scores]
    assert answer_logprob(trajectory.alias_scores, "sum") == pytest.approx(math.log(math.fsum(parts)))


@pytest.mark.parametrize("answer", ["Blerhill", "Town of Blerhill"])
def test_an_answer_spelled_as_an_alias_counts_once(chat: ChatFormat, answer: str) -> None:
    question = msgspec.structs.replace(QUESTION, answers=[*QUESTION.answers, "Blerhill"])
    found = roll(chat, Copying(chat, answer), question=question).alias_scores
    assert [(score.alias, score.said) for score in found] == [(alias, False) for alias in QUESTION.answers]


def test_a_trajectory_that_is_scored_again_counts_the_spelling_that_was_said(chat: ChatFormat) -> None:
    draw = msgspec.structs.replace(SCORED, score_opening=True)
    trajectory = roll(chat, Copying(chat, "Bl|er|hill"), draw)
    agent = Agent(Copying(chat, "Bl|er|hill"), StaticRetriever(PASSAGES), chat, CONFIG)
    again = asyncio.run(agent.rescored(QUESTION, trajectory))
    assert again.alias_scores[-1].said
    assert msgspec.structs.replace(again, cost=trajectory.cost) == trajectory


def test_a_wrong_answer_adds_nothing(chat: ChatFormat) -> None:
    for answer in ("Bl|er|hills", "Bl|er", " "):
        found = roll(chat, Copying(chat, answer)).alias_scores
        assert [score.alias for score in found] == QUESTION.answers


def test_what_is_not_known_to_be_the_models_own_tokens_adds_nothing(chat: ChatFormat) -> None:
    found = roll(chat, Copying(chat, "Bl|er|hill", exact=False, scored=False))
    assert not found.exact and [score.said for score in found.alias_scores] == [False, False]


def test_log_probs_that_the_engine_did_not_tell_are_not_taken_for_certainty(chat: ChatFormat) -> None:
    """With `model.retokenise` a server's text counts as its tokens, but has no log-probs: zeros were taken for them."""
    for answer in ("Blerhill", "Bl|er|hill"):
        told, untold = (roll(chat, Copying(chat, answer, scored=scored)) for scored in (True, False))
        assert untold.alias_scores == told.alias_scores
        assert all(score.logprob < 0 for score in untold.alias_scores)


def test_a_spelling_that_was_cut_at_its_limit_is_no_whole_answer(chat: ChatFormat) -> None:
    config = msgspec.structs.replace(CONFIG, grammar="closed-book", turn_tokens=len(chat.encode("Blerhill")))
    engine = ScriptedEngine(chat, lambda prompt, turn, seed: "Blerhill Blerhill Blerhill")
    [found] = Agent(engine, StaticRetriever(PASSAGES), chat, config).rollout([(QUESTION, 0)], SCORED)
    assert found.answer == "Blerhill" and found.token_ids[-1] != chat.stop_id
    assert [score.said for score in found.alias_scores] == [False, False]


@pytest.mark.parametrize("name", ["search-r1", "r1-searcher"])
def test_an_answer_within_a_turn_is_scored_up_to_its_closing_tag(chat: ChatFormat, name: GrammarName) -> None:
    class Tagging(ScriptedEngine):
        def _continue(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
            ids = spelled(self.chat, "<think>|x|</think>|<answer>| Bl|er|hill |</answer>")
            return Completion(ids, self._logprobs(len(prompt), ids), "stop")

    config = msgspec.structs.replace(CONFIG, grammar=name)
    agent = Agent(Tagging(chat, lambda *_: ""), StaticRetriever(PASSAGES), chat, config)
    [found] = agent.rollout([(QUESTION, 0)], SCORED)
    said = spelled(chat, " Bl|er|hill |</answer>")
    assert found.answer == "Blerhill" and found.token_ids[found.answer_start :] == said
    assert found.alias_scores[-1] == AliasScore("Blerhill", expected(found, said), len(said), said=True)


@pytest.mark.parametrize("way", ["score_opening", "score_steps"])
def test_what_the_evidence_brought_is_told_by_the_same_spellings_before_and_after(chat: ChatFormat, way: str) -> None:
    draw = msgspec.structs.replace(SCORED, **{way: True})
    engine = Copying(chat, "Bl|er|hill")
    copied, plain = roll(chat, engine, draw), roll(chat, Copying(chat, "Blerhill"), draw)
    said = [*spelled(chat, "Bl|er|hill"), chat.stop_id]
    prefixes = [prefix for prefix, target in engine.scored if target == said]
    assert len(prefixes) == 1, "after the question alone"
    own = math.fsum(ScriptedEngine._logprobs(len(prefixes[0]), said))
    assert plain.opening_logprob is not None and copied.opening_logprob is not None
    assert copied.opening_logprob == pytest.approx(math.log(math.exp(plain.opening_logprob) + math.exp(own)))


class Scripted:
    """A seat of a real model that is made to say one thing after the other."""

    def __init__(self, seat: Seat, turns: list[TokenIds]) -> None:
        self.seat, self.turns = seat, turns
        self.logprobs, self.close = seat.logprobs, seat.close

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        ids = self.turns.pop(0)
        return Completion(ids, await self.seat.logprobs(prompt, ids), "stop")


def made_to_say(engine: Engine, chat: ChatFormat, answer: str) -> Engine:
    turns = ["<QUERY>| Orm", "<FACT>| It| does|. <FINAL>", answer]
    opened, ids = engine.open, [[*spelled(chat, turn), chat.stop_id] for turn in turns]
    engine.open = lambda: Scripted(opened(), list(ids))  # type: ignore[method-assign]
    return engine


pieces = st.lists(st.sampled_from(["Bl", "er", "hill", "B", "ler", "Blerhill", " ", "the "]), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def model(chat: ChatFormat) -> LlamaForCausalLM:
    return tiny_llama(len(chat.tokenizer), spread=0.3)


@settings(max_examples=10)
@given(st.lists(pieces.map("".join).filter(lambda text: len(text.strip()) > 3), min_size=1, max_size=4), pieces)
def test_the_sum_is_over_distinct_sequences_of_tokens_each_with_the_models_own_probability(
    chat: ChatFormat, model: LlamaForCausalLM, answers: list[str], said: list[str]
) -> None:
    question = msgspec.structs.replace(QUESTION, answers=answers)
    engine = made_to_say(HFEngine(tiny_llama(len(chat.tokenizer), spread=0.3), "tiny", 1), chat, "|".join(said))
    trajectory = roll(chat, engine, question=question)
    spellings = {(*chat.encode(answer), chat.stop_id) for answer in answers}
    if question.accepts("".join(said)):
        spellings.add((*spelled(chat, "|".join(said)), chat.stop_id))
    context = trajectory.token_ids[: trajectory.answer_start]
    parts = []
    with torch.no_grad():
        for ids in spellings:
            logits = model(torch.tensor([[*context, *ids]])).logits[0, len(context) - 1 : -1].log_softmax(dim=-1)
            parts.append(logits.gather(1, torch.tensor(ids)[:, None]).sum().item())
    whole = torch.tensor(parts).logsumexp(dim=0).item()
    assert answer_logprob(trajectory.alias_scores, "sum") == pytest.approx(whole, abs=1e-3)
    assert len(trajectory.alias_scores) == len(spellings)


def opened(chat: ChatFormat, folder: Path, name: str) -> Engine:
    if name == "vllm":
        from exsearch.engine.vllm.engine import VLLMEngine

        return VLLMEngine(spec(folder, 2, context=512))
    if name == "copies":
        return CopiedEngine(spec(folder, 2), 2)
    return HFEngine.load(spec(folder, 2))


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.7])
@pytest.mark.parametrize(
    "name",
    [
        "transformers",
        pytest.param("copies", marks=pytest.mark.slow),
        pytest.param("vllm", marks=[pytest.mark.slow, pytest.mark.needs("vllm")]),
    ],
)
def test_what_was_said_has_the_log_probs_that_scoring_it_gives_whatever_the_sampling(
    chat: ChatFormat, tmp_path: Path, name: str, temperature: float
) -> None:
    # 32 is the smallest that vLLM has a kernel for on processors
    engine = opened(chat, save_tiny(tmp_path, chat, spread=0.3, head_size=32), name)
    prompt = chat.encode("Which town lies on the Orm?")
    try:
        [said] = generate(engine, [prompt], Sampling(12, [chat.stop_id], temperature, 0.9), [5])
        [scored] = logprobs(engine, [prompt], [said.token_ids])
    finally:
        engine.shut_down()
    assert said.scored and said.logprobs == pytest.approx(scored, abs=1e-3)


@pytest.mark.parametrize("tempered", [False, True])
def test_a_server_that_tells_the_samplers_log_probs_is_asked_for_the_models_own(
    chat: ChatFormat, model: LlamaForCausalLM, tempered: bool
) -> None:
    engine = HFEngine(model, "tiny", seats=4)
    endpoint = Endpoint(engine, chat, tempered=tempered)
    prompt = chat.encode("Which town lies on the Orm?")
    with running(endpoint) as url:
        remote = OpenAIEngine(endpoint_spec(url, "tiny"), chat)
        found = generate(remote, [prompt] * 3, Sampling(8, [chat.stop_id], 0.5, 0.9), [1, 2, 3])
        asked = len(endpoint.asked)
    expected = logprobs(engine, [prompt] * 3, [completion.token_ids for completion in found])
    assert [c.logprobs for c in found] == [pytest.approx(values, abs=1e-3) for values in expected]
    assert asked == 3 + 3 + 3 * tempered, "to find out what it can, what was said, and what that scores"


def journal(tmp_path: Path, chat: ChatFormat) -> list[Trajectory]:
    """Four samples of one question: a right answer as it is copied, two wrong ones, and one that ended early."""
    engines = [Copying(chat, answer) for answer in ("Bl|er|hill", "Orm", "the Orm")]
    found = [msgspec.structs.replace(roll(chat, e), sample=n) for n, e in enumerate(engines)]
    # as in the quickstart: own log-prob -0.04, that of the alias -5.5, with which the gate drops the question
    own = AliasScore("Blerhill", -0.04, 4, said=True)
    scores = [
        [AliasScore("Blerhill", -5.5, 4), own],
        [AliasScore("Blerhill", -6.0, 4)],
        [AliasScore("Blerhill", -6.7, 4)],
    ]
    found = [msgspec.structs.replace(t, alias_scores=s) for t, s in zip(found, scores, strict=True)]
    write_jsonl(tmp_path / "journal.jsonl", found)
    return list(read_jsonl(tmp_path / "journal.jsonl", Trajectory))


@pytest.mark.parametrize("weighting", ["paper", "nll-mean"])
def test_a_right_answer_that_was_copied_weighs_what_it_was_likely(
    chat: ChatFormat, tmp_path: Path, weighting: WeightingName
) -> None:
    found = journal(tmp_path, chat)
    config = WeighConfig(weighting=weighting, gate="drop")
    weights = [w.weight for w in weigh(found, [QUESTION], config)]
    assert math.fsum(weights) == pytest.approx(1) and weights[0] > (0.99 if weighting == "paper" else 0.6)
    assert weigh(found, [QUESTION], config)[0].target is None
    earlier = [
        msgspec.structs.replace(t, alias_scores=[score for score in t.alias_scores if not score.said]) for t in found
    ]
    assert b"said" not in msgspec.json.encode(earlier), "a journal of an earlier version has no such field"
    assert [w.weight for w in weigh(earlier, [QUESTION], config)] == [0.0] * 3, "and is weighed as it was"


def test_the_references_weight_stays_that_of_the_gold_answers(chat: ChatFormat, tmp_path: Path) -> None:
    weights = [w.weight for w in weigh(journal(tmp_path, chat), [QUESTION], WeighConfig(weighting="reference-v1"))]
    assert weights == pytest.approx([4 * math.exp(value / 4) for value in (-5.5, -6.0, -6.7)])


def test_scores_of_other_answers_than_the_questions_are_refused(chat: ChatFormat, tmp_path: Path) -> None:
    for answers, named in ((["Orm"], "Blerhill"), (["Blerhills"], "Blerhill")):
        with pytest.raises(
            UsageError, match=f"q/0 was scored with the answer '{named}', which its question does not have"
        ):
            weigh(journal(tmp_path, chat), [msgspec.structs.replace(QUESTION, answers=answers)], WeighConfig())


@given(st.text(max_size=8), st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3))
def test_an_accepted_answer_is_one_that_exact_match_counts(answer: str, answers: list[str]) -> None:
    scored = answer_scores(answer, answers)["em"]
    assert Question("q", "?", answers).accepts(answer) == bool(scored)
