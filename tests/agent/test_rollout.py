"""Rollouts: every way a trajectory can end, within its budget of tokens."""

from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.episode import Episode
from exsearch.agent.grammar import ExSearchGrammar
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.config import AgentConfig, RolloutConfig
from exsearch.corpus.passage import Passage
from exsearch.questions.question import Question
from scripted import Script, ScriptedEngine, StaticRetriever, lines

QUESTION = Question("q", "Which city is the capital of France?", ["Paris", "City of Paris"])
PASSAGES = [Passage("a", "France", "Its capital is Paris."), Passage("b", "Italy", "Its capital is Rome.")]
ANSWER_REQUEST = ExSearchGrammar().final_request("")
LIMITS = RolloutConfig(search_retries=1, search_seconds=0.5, turn_seconds=0.5)
CONFIG = AgentConfig(max_steps=3, passages=2, passage_tokens=60, turn_tokens=24, context=2048)


def make_agent(
    chat: ChatFormat, script: Script, config: AgentConfig = CONFIG, fails_for: str | None = None, **parts: int
) -> Agent:
    engine = ScriptedEngine(chat, script, parts.get("context_size", 4096), parts.get("engine_fails_at", -1))
    return Agent(engine, StaticRetriever(PASSAGES, fails_for), chat, config, LIMITS)


def roll(agent: Agent, question: Question = QUESTION) -> Trajectory:
    [trajectory] = agent.rollout([(question, 0)], Draw(7, 1.0, score_answers=True))
    return trajectory


ANSWERING = ("<QUERY> capital", "<FACT> It is Paris. <FINAL>", " Paris \n")


def test_a_question_is_answered_after_its_searches(chat: ChatFormat) -> None:
    agent = make_agent(
        chat, lines("<QUERY> France", "<FACT> a country <QUERY> its capital", "<FACT> Paris <FINAL>", "Paris")
    )
    trajectory = roll(agent)
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert [(s.query, s.evidence) for s in trajectory.steps] == [("France", "a country"), ("its capital", "Paris")]
    assert [[hit.passage.id for hit in step.hits] for step in trajectory.steps] == [["a", "b"], ["a", "b"]]
    assert (trajectory.model_fingerprint, trajectory.index_fingerprint) == ("scripted", "static")


@pytest.mark.parametrize(
    ("repeated", "read"), [("same", ["a", "a", "a", "a"]), ("next", ["a", "a", "b", None])], ids=["same", "next"]
)
def test_a_query_asked_again_brings_what_is_configured(
    repeated: Literal["same", "next"], read: list[str | None], chat: ChatFormat
) -> None:
    config = AgentConfig(max_steps=4, passages=1, passage_tokens=60, turn_tokens=24, repeated=repeated)
    said = lines("<QUERY> x", *(f"<FACT> y <QUERY> {query}" for query in ("z", "x", "x")), "<FACT> y <FINAL>", "Paris")
    trajectory = roll(make_agent(chat, said, config))
    assert trajectory.stop_reason == StopReason.ANSWERED
    assert [step.hits[0].passage.id if step.hits else None for step in trajectory.steps] == read


def test_asking_for_one_search_more_than_allowed_ends_with_max_steps(chat: ChatFormat) -> None:
    agent = make_agent(chat, lines("<QUERY> a", *["<FACT> b <QUERY> c"] * 5))
    trajectory = roll(agent)
    assert trajectory.stop_reason == StopReason.MAX_STEPS
    assert len(trajectory.steps) == CONFIG.max_steps
    assert trajectory.steps[-1].evidence == "b"


def test_the_last_allowed_search_can_still_be_answered_from(chat: ChatFormat) -> None:
    turns = ("<QUERY> a", *["<FACT> b <QUERY> c"] * 2, "<FACT> d <FINAL>", "Paris")
    assert roll(make_agent(chat, lines(*turns))).stop_reason == StopReason.ANSWERED


@pytest.mark.parametrize(
    "turns",
    [
        ("Paris",),
        ("<QUERY> a", "Paris"),
        ("<QUERY> " + "very " * 40 + "long",),
        ("<QUERY> a", "<FACT> " + "very " * 40 + "long <FINAL>"),
        ("<QUERY> a", "<FACT> b <FINAL>", "a much " * 20 + "too long answer"),
        ("<QUERY> a", "<FACT> b <FINAL>", "grep -c <QUERY> Which ..."),
        ("<QUERY> a", "<FACT> b <FINAL>", "<FACT> It is Paris. <FINAL>"),
        ("<QUERY> a", "<FACT> b <FINAL>", "Paris <THINK> or Rome"),
    ],
)
def test_a_turn_against_the_grammar_or_over_its_length_ends_as_malformed(
    chat: ChatFormat, turns: tuple[str, ...]
) -> None:
    agent = make_agent(chat, lines(*turns))
    trajectory = roll(agent)
    assert (trajectory.stop_reason, trajectory.answer, trajectory.answer_start) == (StopReason.MALFORMED, None, None)
    assert sum(trajectory.loss_mask) == sum(len(c.token_ids) for c in agent.engine.completions)  # type: ignore[attr-defined]


@pytest.mark.parametrize("at", [0, 1])
def test_a_search_that_fails_ends_only_the_trajectories_that_wait_for_it(chat: ChatFormat, at: int) -> None:
    def script(prompt: str, turn: int, seed: int) -> str:
        if "first" in prompt:
            return ("<QUERY> a", "<FACT> b <FINAL>", "Paris")[turn]
        return ("<QUERY> a", "<FACT> b <QUERY> c", "<FACT> d <FINAL>", "Paris")[turn]

    agent = make_agent(chat, script, fails_for="ac"[at])
    tasks = [(Question("1", "first?", ["x"]), 0), (Question("2", "second?", ["x"]), 0)]
    found = agent.rollout(tasks, Draw(1, 1.0))
    expected = [StopReason.RETRIEVAL_FAILED if at == 0 else StopReason.ANSWERED, StopReason.RETRIEVAL_FAILED]
    assert [t.stop_reason for t in found] == expected
    assert [len(t.steps) for t in found] == [at, at]
    assert found[1].stop_detail == "the index is gone"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_engine_that_fails_ends_the_trajectory_and_keeps_what_was_said(chat: ChatFormat, at: int) -> None:
    agent = make_agent(chat, lines(*ANSWERING), engine_fails_at=at)
    trajectory = roll(agent)
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ENGINE_FAILED, None)
    assert sum(trajectory.loss_mask) == sum(len(c.token_ids) for c in agent.engine.completions)  # type: ignore[attr-defined]
    assert trajectory.answer_start is None


def test_a_question_that_does_not_fit_is_not_even_asked(chat: ChatFormat) -> None:
    agent = make_agent(chat, lines(), CONFIG, context_size=256)
    trajectory = roll(agent, Question("q", "why " * 200, ["x"]))
    assert trajectory.stop_reason == StopReason.CONTEXT_FULL
    assert agent.engine.calls == 0  # type: ignore[attr-defined]


def test_a_context_that_fills_up_ends_the_search(chat: ChatFormat) -> None:
    # An opening and one search with a few tokens of passages: what is said in between eats up the rest.
    said = "<QUERY> " + "x " * 12
    fits = [
        context
        for context in range(150, 400)
        if roll(make_agent(chat, lines(said, "<FACT> a <FINAL>", "b"), context_size=context)).steps
    ]
    stopped = roll(make_agent(chat, lines(said), context_size=fits[0]))
    assert stopped.stop_reason == StopReason.CONTEXT_FULL
    assert [step.query for step in stopped.steps] == [said.removeprefix("<QUERY>").strip()]
    assert len(stopped.token_ids) <= fits[0]


def test_only_answered_trajectories_are_scored_against_every_alias(chat: ChatFormat) -> None:
    def script(prompt: str, turn: int, seed: int) -> str:
        return "nonsense" if "silent" in prompt else ANSWERING[turn]

    agent = make_agent(chat, script)
    tasks = [
        (QUESTION, 0),
        (Question("silent", "Be silent?", ["nothing"]), 0),
        (Question("one", "One alias?", ["Only"]), 0),
    ]
    found = agent.rollout(tasks, Draw(1, 1.0, score_answers=True))
    aliases = [[score for score in trajectory.alias_scores if not score.said] for trajectory in found]
    assert [[score.alias for score in scores] for scores in aliases] == [["Paris", "City of Paris"], [], ["Only"]]
    for trajectory, scores in ((found[0], aliases[0]), (found[2], aliases[2])):
        start = trajectory.answer_start
        prefix = trajectory.token_ids[:start]
        for score in scores:
            target = [*chat.encode(score.alias), chat.stop_id]
            assert (prefix, target) in agent.engine.scored  # type: ignore[attr-defined]
            assert score.tokens == len(target)
            assert score.logprob == pytest.approx(sum(ScriptedEngine._logprobs(len(prefix), target)), abs=1e-4)
    assert len(agent.engine.scored) == 3  # type: ignore[attr-defined]
    assert agent.rollout(tasks[:1], Draw(1, 1.0))[0].alias_scores == []


def test_what_an_alias_has_in_common_with_what_was_said_is_not_scored_again(chat: ChatFormat) -> None:
    agent = make_agent(chat, lines(*ANSWERING[:-1], "City of Lyon"))
    trajectory = roll(agent)
    [first, second] = agent.engine.scored  # type: ignore[attr-defined]
    context = trajectory.token_ids[: trajectory.answer_start]
    assert first == (context, [*chat.encode("Paris"), chat.stop_id])
    assert (second[0], chat.decode(second[1][:-1])) == (context + chat.encode("City of"), " Paris")
    whole = [*chat.encode("City of Paris"), chat.stop_id]
    score = trajectory.alias_scores[1]
    assert score.tokens == len(whole)
    assert score.logprob == pytest.approx(sum(ScriptedEngine._logprobs(len(context), whole)), abs=1e-4)


def test_an_alias_that_the_model_said_is_not_scored_again(chat: ChatFormat) -> None:
    agent = make_agent(chat, lines(*ANSWERING[:-1], "City of Paris"))
    trajectory = roll(agent)
    assert trajectory.answer_start is not None
    assert [chat.decode(target[:-1]) for _, target in agent.engine.scored] == ["Paris"]  # type: ignore[attr-defined]
    [_, own] = trajectory.alias_scores
    assert own.alias == "City of Paris"
    assert own.logprob == pytest.approx(sum(trajectory.logprobs[trajectory.answer_start :]), abs=1e-4)
    assert own.tokens == len(trajectory.token_ids) - trajectory.answer_start


def test_passages_that_are_too_long_are_shortened_and_counted(chat: ChatFormat) -> None:
    long, short = Passage("a", "Long", "word " * 300), Passage("b", "Short", "end")
    agent = Agent(ScriptedEngine(chat, lines(*ANSWERING)), StaticRetriever([long, short]), chat, CONFIG)
    trajectory = roll(agent)
    assert trajectory.shortened_passages == 1
    text = chat.decode(trajectory.token_ids)
    assert "[2] Title: Short Content: end" in text
    assert 30 < text.count("word ") < 120
    assert roll(make_agent(chat, lines(*ANSWERING))).shortened_passages == 0


@settings(max_examples=60)
@given(
    st.integers(100, 900),
    st.integers(4, 40),
    st.integers(1, 4),
    st.integers(5, 200),
    st.integers(1, 4),
    st.lists(st.integers(0, 150), min_size=4, max_size=4),
    st.integers(0, 2**32),
)
def test_no_trajectory_outgrows_its_context_or_loses_its_question(
    chat: ChatFormat,
    context: int,
    turn_tokens: int,
    max_steps: int,
    passage_tokens: int,
    k: int,
    lengths: list[int],
    noise: int,
) -> None:
    def script(prompt: str, turn: int, seed: int) -> str:
        words = "w " * (1 + (seed + noise) % turn_tokens)
        if ANSWER_REQUEST in prompt:
            return words
        if turn == 0:
            return f"<QUERY> {words}"
        return f"<FACT> {words} <FINAL>" if (seed + noise) % 3 == 0 else f"<FACT> f <QUERY> {words}"

    config = AgentConfig(
        max_steps=max_steps, passages=k, passage_tokens=passage_tokens, turn_tokens=turn_tokens, context=context
    )
    passages = [Passage(str(n), f"T{n}", "word " * length) for n, length in enumerate(lengths)]
    # The engine itself refuses a prompt that leaves no room for a turn.
    engine = ScriptedEngine(chat, script, context_size=context)
    agent = Agent(engine, StaticRetriever(passages), chat, config)
    trajectory = roll(agent)
    opening = chat.first_prompt(agent.grammar.opening(QUESTION.text))
    assert trajectory.token_ids[: len(opening)] == opening
    if engine.calls:
        assert len(trajectory.token_ids) <= context
    else:
        assert trajectory.stop_reason == StopReason.CONTEXT_FULL
    if trajectory.answer is not None:
        assert QUESTION.text in chat.decode(trajectory.token_ids).split(ANSWER_REQUEST)[-1]
    assert trajectory.shortened_passages <= k * len(trajectory.steps)


@settings(max_examples=60)
@given(st.integers(150, 1200), st.integers(16, 60), st.integers(1, 4), st.integers(1, 4))
def test_a_model_that_uses_up_every_budget_still_gets_to_answer(
    chat: ChatFormat, context: int, turn_tokens: int, max_steps: int, k: int
) -> None:
    def fill(before: str, after: str = "") -> str:
        return before + " the" * (turn_tokens - 1 - len(chat.encode(before)) - len(chat.encode(after))) + after

    def script(prompt: str, turn: int, seed: int) -> str:
        if ANSWER_REQUEST in prompt:
            return fill("")
        if turn == 0:
            return fill("<QUERY>")
        return fill("<FACT> f <QUERY>") if turn < max_steps else fill("<FACT>", " <FINAL>")

    config = AgentConfig(max_steps=max_steps, passages=k, passage_tokens=2000, turn_tokens=turn_tokens, context=context)
    passages = [Passage(str(n), "T", "word " * 2000) for n in range(k)]
    # The engine itself refuses a prompt that leaves no room for a turn.
    engine = ScriptedEngine(chat, script, context_size=context)
    trajectory = roll(Agent(engine, StaticRetriever(passages), chat, config))
    assert all(len(completion.token_ids) == turn_tokens for completion in engine.completions)
    assert trajectory.stop_reason in (StopReason.ANSWERED, StopReason.CONTEXT_FULL)
    if trajectory.stop_reason == StopReason.ANSWERED:
        assert len(trajectory.steps) == max_steps
        assert context - max_steps - k < len(trajectory.token_ids) <= context, "nothing but rounding is left unused"
    else:
        assert context < 1000


@settings(max_examples=40)
@given(st.integers(60, 400), st.integers(1, 4), st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_passages_are_shortened_only_where_they_do_not_fit(
    chat: ChatFormat, passage_tokens: int, k: int, lengths: list[int]
) -> None:
    passages = [Passage(str(n), f"T{n}", "word " * length) for n, length in enumerate(lengths)]
    config = AgentConfig(max_steps=1, passages=k, passage_tokens=passage_tokens, turn_tokens=24)
    trajectory = roll(Agent(ScriptedEngine(chat, lines(*ANSWERING)), StaticRetriever(passages), chat, config))
    wholes = [len(chat.encode(f"\n[{n}] Title: T{n} Content: {'word ' * length}")) for n, length in enumerate(lengths)]
    header = len(chat.encode("<SEARCH>"))
    if header + sum(wholes[:k]) <= passage_tokens * k and max(wholes[:k]) <= passage_tokens - header:
        assert trajectory.shortened_passages == 0
    assume(trajectory.shortened_passages == 0)
    text = chat.decode(trajectory.token_ids)
    assert text.count("word") == sum(lengths[:k])


def test_each_episode_is_reported_after_each_of_its_turns(chat: ChatFormat) -> None:
    heard: list[tuple[int, int, bool]] = []

    def hear(episode: Episode) -> None:
        heard.append((episode.turns, len(episode.steps), episode.running))

    make_agent(chat, lines(*ANSWERING)).rollout([(QUESTION, 0)], Draw(1, 1.0), on_step=hear)
    assert heard == [(1, 1, True), (2, 1, True), (3, 1, False)]


def test_samples_of_a_question_differ_in_their_seeds_and_runs_in_theirs(chat: ChatFormat) -> None:
    agent = make_agent(chat, lines("x"))
    tasks = [(QUESTION, 0), (QUESTION, 1), (Question("other", "?", ["x"]), 0)]
    seeds = [t.seed for seed in (1, 2) for t in agent.rollout(tasks, Draw(seed, 1.0))]
    assert len(set(seeds)) == 6
    assert [t.seed for t in agent.rollout(tasks, Draw(1, 1.0))] == seeds[:3]


def test_the_smaller_of_both_contexts_counts(chat: ChatFormat) -> None:
    assert make_agent(chat, lines("x"), CONFIG, context_size=300).context == 300
    assert make_agent(chat, lines("x"), CONFIG, context_size=9000).context == CONFIG.context
