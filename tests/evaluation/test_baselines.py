"""Baselines: the same loop, budgets, journal and scores as the agent's, under a protocol that lets them compare."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.experiment import Experiment
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.cli.eval import eval_
from exsearch.config import AgentConfig, ExploreConfig, GrammarName, RolloutConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_jsonl
from exsearch.corpus.passage import Passage
from exsearch.em.explore import explore
from exsearch.engine.hf.engine import HFEngine
from exsearch.evaluation.baselines import majority
from exsearch.evaluation.evaluate import Evaluation, evaluate
from exsearch.evaluation.protocol import PROTOCOL, make_protocol
from exsearch.questions.question import Question, SubQuestion
from exsearch.retrieval.open import Opened
from exsearch.training.example import example_from
from exsearch.warmup.write import gold_trajectories
from scripted import Script, ScriptedEngine, StaticRetriever, lines
from tiny_models import tiny_llama

QUESTION = Question("q", "Which city is the capital of France?", ["Paris", "City of Paris"])
PASSAGES = [Passage("a", "France", "Its capital is Paris."), Passage("b", "Italy", "Its capital is Rome.")]
BASELINES: list[GrammarName] = ["closed-book", "one-shot", "ircot", "self-ask"]


def config(grammar: GrammarName, **changes: int) -> AgentConfig:
    return AgentConfig(grammar=grammar, **{"max_steps": 3, "passages": 2, "turn_tokens": 24, **changes})  # type: ignore[arg-type]


def make_agent(chat: ChatFormat, grammar: GrammarName, script: Script, **changes: int) -> Agent:
    return Agent(ScriptedEngine(chat, script), StaticRetriever(PASSAGES), chat, config(grammar, **changes))


def roll(agent: Agent, question: Question = QUESTION) -> Trajectory:
    [trajectory] = agent.rollout([(question, 0)], Draw(7, 0.0, score_answers=True))
    return trajectory


def turns_of(chat: ChatFormat, trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in chat.messages(trajectory.token_ids)]


def test_closed_book_asks_once_and_never_searches(chat: ChatFormat) -> None:
    agent = make_agent(chat, "closed-book", lines(" Paris \n"))
    trajectory = roll(agent)
    assert (trajectory.answer, trajectory.steps, agent.retriever.calls) == ("Paris", [], 0)  # type: ignore[attr-defined]
    [(_, asked), (_, said)] = turns_of(chat, trajectory)
    assert asked.endswith("\nQuestion: Which city is the capital of France?") and said == " Paris \n"
    assert trajectory.loss_mask[trajectory.answer_start :] == [1] * 3
    assert [score.alias for score in trajectory.alias_scores] == [*QUESTION.answers, "Paris"], "and as it was said"


def test_one_shot_searches_for_the_question_and_asks_in_the_same_turn(chat: ChatFormat) -> None:
    agent = make_agent(chat, "one-shot", lines("Paris"))
    trajectory = roll(agent)
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert [(step.query, len(step.hits)) for step in trajectory.steps] == [(QUESTION.text, 2)]
    [(role, asked), (_, said)] = turns_of(chat, trajectory)
    assert (role, said) == ("user", "Paris")
    assert asked.splitlines()[1:] == [
        "Passages:",
        "[1] Title: France Content: Its capital is Paris.",
        "[2] Title: Italy Content: Its capital is Rome.",
        f"Question: {QUESTION.text}",
        "Give the answer alone: a name, a number or a date, no sentence.",
    ]


def test_ircot_searches_with_each_sentence_until_the_answer_is_known(chat: ChatFormat) -> None:
    said = ("The capital of France lies on the Seine.", "So the answer is Paris.", "Paris")
    trajectory = roll(make_agent(chat, "ircot", lines(*said)))
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert [step.query for step in trajectory.steps] == [QUESTION.text, said[0]]
    assert [content for role, content in turns_of(chat, trajectory) if role == "assistant"] == list(said)


@pytest.mark.parametrize(("grammar", "asking"), [("ircot", "Hm, the Seine."), ("self-ask", "Follow up: which river?")])
def test_who_never_ends_is_asked_for_the_answer_after_the_last_search(
    chat: ChatFormat, grammar: GrammarName, asking: str
) -> None:
    def script(prompt: str, turn: int, seed: int) -> str:
        return "Paris" if "Give the answer alone" in prompt else asking

    trajectory = roll(make_agent(chat, grammar, script))
    assert (trajectory.stop_reason, trajectory.answer, len(trajectory.steps)) == (StopReason.ANSWERED, "Paris", 3)
    last_request = turns_of(chat, trajectory)[-2][1]
    assert "[2] Title: Italy" in last_request and "Give the answer alone" in last_request


def test_self_ask_records_intermediate_answers(chat: ChatFormat) -> None:
    said = (
        "Follow up: France?",
        "Intermediate answer: a country\nFollow up: its capital?",
        "So the final answer is: P",
        "P",
    )
    trajectory = roll(make_agent(chat, "self-ask", lines(*said)))
    assert [(step.query, step.evidence) for step in trajectory.steps] == [
        ("France?", "a country"),
        ("its capital?", None),
    ]
    assert trajectory.answer == "P"


@pytest.mark.parametrize("grammar", BASELINES)
def test_a_turn_cut_at_its_limit_is_read_and_closed_without_loss(chat: ChatFormat, grammar: GrammarName) -> None:
    agent = make_agent(chat, grammar, lambda prompt, turn, seed: "Follow up: on and on" + " and on" * 40)
    trajectory = roll(agent)
    assert trajectory.stop_reason == StopReason.ANSWERED
    own = [token for token, mask in zip(trajectory.token_ids, trajectory.loss_mask, strict=True) if mask]
    assert own == [token for c in agent.engine.completions for token in c.token_ids]  # type: ignore[attr-defined]
    assert chat.stop_id not in own
    roles = [role for role, _ in turns_of(chat, trajectory)]
    assert roles == ["user", "assistant"] * (len(roles) // 2), "every turn of the model is closed"


@settings(max_examples=40)
@given(st.sampled_from(BASELINES), st.integers(120, 700), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32))
def test_no_baseline_outgrows_its_context(
    chat: ChatFormat, grammar: GrammarName, context: int, max_steps: int, k: int, noise: int
) -> None:
    def script(prompt: str, turn: int, seed: int) -> str:
        return "Follow up:" + " w" * ((seed + noise) % 40) + ("\nSo the answer is" * ((seed + noise) % 3 == 0))

    settled = config(grammar, max_steps=max_steps, passages=k, context=context)
    passages = [Passage(str(n), f"T{n}", "word " * 90) for n in range(k)]
    engine = ScriptedEngine(chat, script, context_size=context)  # refuses a prompt that leaves no room for a turn
    trajectory = roll(Agent(engine, StaticRetriever(passages), chat, settled))
    assert trajectory.stop_reason in (StopReason.ANSWERED, StopReason.CONTEXT_FULL)
    assert len(trajectory.token_ids) <= context or not engine.calls
    assert len(trajectory.steps) <= max_steps


def test_a_real_model_that_knows_no_grammar_answers_every_question(chat: ChatFormat, tmp_path: Path) -> None:
    engine = HFEngine(tiny_llama(len(chat.tokenizer), spread=0.2), "tiny", seats=4)
    questions = [Question(f"q{n}", f"What is number {n}?", ["one"]) for n in range(3)]
    for grammar in BASELINES:
        settled = config(grammar, max_steps=2, turn_tokens=6)
        agent = Agent(engine, StaticRetriever(PASSAGES), chat, settled, RolloutConfig(in_flight=4))
        evaluation = Evaluation(tmp_path / grammar, questions, make_protocol(settled, "static", questions))
        [scores] = evaluate(agent, [evaluation], grammar, "evaluate")
        assert scores.stop_reasons == {"answered": 3}
        assert scores.figures["answer_probability"].n == 3


def test_methods_share_a_fingerprint_and_conditions_do_not() -> None:
    fingerprints = {make_protocol(config(g), "i", [QUESTION]).fingerprint for g in ("exsearch", *BASELINES)}
    assert len(fingerprints) == 1
    changed = [
        make_protocol(config("one-shot", passages=3), "i", [QUESTION]),
        make_protocol(config("one-shot"), "j", [QUESTION]),
        make_protocol(config("one-shot"), "i", [QUESTION, QUESTION]),
    ]
    assert len({protocol.fingerprint for protocol in changed} | fingerprints) == 4


def test_a_folder_with_another_methods_evaluation_is_refused_though_it_be_unfinished(
    chat: ChatFormat, tmp_path: Path
) -> None:
    def evaluation(grammar: GrammarName) -> Evaluation:
        return Evaluation(tmp_path, [QUESTION], make_protocol(config(grammar), "static", [QUESTION]))

    evaluate(make_agent(chat, "one-shot", lines("Paris")), [evaluation("one-shot")], "m", "evaluate")
    (tmp_path / "scores.json").unlink()
    other = make_agent(chat, "closed-book", lines("Rome"))
    with pytest.raises(UsageError, match=r'made with other settings: agent\.grammar = "one-shot" -> "closed-book"\. '):
        evaluate(other, [evaluation("closed-book")], "m", "evaluate")
    with pytest.raises(UsageError, match='another protocol: method = "one-shot" -> "majority"; grammar = '):
        majority([QUESTION], evaluation("one-shot"))
    assert other.engine.calls == 0  # type: ignore[attr-defined]


def test_a_journal_of_another_grammar_is_not_continued(chat: ChatFormat, tmp_path: Path) -> None:
    journal, settled = tmp_path / "rollouts.jsonl", ExploreConfig(samples=1)
    [found] = explore(make_agent(chat, "one-shot", lines("Paris")), [QUESTION], settled, 3, journal)
    assert found.grammar == "one-shot"
    with pytest.raises(UsageError, match=r'made with other settings: agent\.grammar = "one-shot" -> "closed-book"\. '):
        explore(make_agent(chat, "closed-book", lines("Rome")), [QUESTION], settled, 3, journal)


def test_the_command_evaluates_a_baseline(chat: ChatFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(experiment: Experiment) -> Agent:
        return make_agent(chat, experiment.config.agent.grammar, lines("Paris"))

    monkeypatch.setattr("exsearch.agent.agents.load_agents", loaded)
    opened = Opened(StaticRetriever([]), None)
    monkeypatch.setattr("exsearch.agent.experiment.open_located", lambda *words, **named: opened)
    write_jsonl(tmp_path / "q.jsonl", [QUESTION])
    common = ["--index", "-", "--questions", str(tmp_path / "q.jsonl")]
    for method, extra in (("one-shot", []), ("majority", ["--train", str(tmp_path / "q.jsonl")])):
        out = tmp_path / method
        result = CliRunner().invoke(eval_, [*common, "--out", str(out), "--baseline", method, *extra])
        assert result.exit_code == 0, result.output
        written = read_json(out / PROTOCOL, dict[str, object])
        assert written["method"] == method and str(written["fingerprint"]) in result.output
        assert " 1.000  [1.000, 1.000]" in result.output
    write_jsonl(tmp_path / "other.jsonl", [msgspec.structs.replace(QUESTION, answers=["Rome"])])
    words = ["--out", str(tmp_path / "majority"), "--baseline", "majority", "--train", str(tmp_path / "other.jsonl")]
    other = CliRunner().invoke(eval_, [*common, *words])
    assert isinstance(other.exception, UsageError) and "another answer than 'Rome'" in str(other.exception)
    refused = CliRunner().invoke(eval_, [*common, "--out", str(tmp_path / "o"), "--baseline", "majority"])
    assert isinstance(refused.exception, UsageError) and "--train" in str(refused.exception)


def test_one_shot_gold_has_the_context_that_a_rollout_has(chat: ChatFormat) -> None:
    agent = make_agent(chat, "one-shot", lines("wrong"))
    rolled = roll(agent)
    [gold] = gold_trajectories([QUESTION], agent.retriever, chat, agent.config)
    assert gold.answer_start is not None
    assert gold.token_ids[: gold.answer_start] == rolled.token_ids[: rolled.answer_start]
    assert chat.decode(gold.token_ids[gold.answer_start :]) == "Paris"
    assert sum(gold.loss_mask) == len(gold.token_ids) - gold.answer_start
    example = example_from(gold, 1.0, None, chat)
    assert (example.token_ids, example.loss_mask) == (gold.token_ids, gold.loss_mask)


def test_self_ask_gold_is_written_from_a_decomposition(chat: ChatFormat) -> None:
    sub = SubQuestion("capital of France?", ["Paris"], passage="a", evidence="It is Paris.")
    question = Question("q", "Which?", ["Paris"], sub_questions=[sub])
    [gold] = gold_trajectories([question], StaticRetriever(PASSAGES), chat, config("self-ask"))
    said = [content for role, content in turns_of(chat, gold) if role == "assistant"]
    assert said == [
        "Follow up: capital of France?",
        "Intermediate answer: It is Paris.\nSo the final answer is:",
        "Paris",
    ]


def test_gold_that_searches_as_often_as_allowed_is_asked_like_a_rollout(chat: ChatFormat) -> None:
    sub = SubQuestion("capital of France?", ["Paris"], passage="a", evidence="It is Paris.")
    question = Question("q", "Which?", ["Paris"], sub_questions=[sub])
    [gold] = gold_trajectories([question], StaticRetriever(PASSAGES), chat, config("self-ask", max_steps=1))
    script = lines("Follow up: capital of France?", "Paris")
    rolled = roll(make_agent(chat, "self-ask", script, max_steps=1), question)
    assert turns_of(chat, gold) == turns_of(chat, rolled)


@pytest.mark.parametrize("grammar", ["ircot", "closed-book"])
def test_a_grammar_without_gold_is_refused(chat: ChatFormat, grammar: GrammarName) -> None:
    with pytest.raises(UsageError, match="can only be written in exsearch, exsearch-select, one-shot, self-ask"):
        gold_trajectories([QUESTION], StaticRetriever(PASSAGES), chat, config(grammar))
