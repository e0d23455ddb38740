"""An episode by itself: what becomes of it with each turn and each search, without a model or a retriever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.budget import MIN_PASSAGE_TOKENS, Budget
from exsearch.agent.chat import ChatFormat
from exsearch.agent.episode import Episode, seed_of
from exsearch.agent.grammars.registry import make_grammar
from exsearch.agent.trajectory import StopReason
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig, GrammarName
from exsearch.corpus.passage import Hit, Passage
from exsearch.engine.base import Completion, Finish
from exsearch.questions.question import Question

QUESTION = Question("q", "Which city is the capital of France?", ["Paris"])
HITS = [Hit(Passage("a", "France", "Its capital is Paris."), 1.0, 1)]
CONFIG = AgentConfig(max_steps=2, passages=1, passage_tokens=60, turn_tokens=24, context=1024)


def begun(chat: ChatFormat, config: AgentConfig = CONFIG, question: Question = QUESTION) -> Episode:
    grammar = make_grammar(config)
    budget = Budget(chat, grammar, config, config.context)
    return Episode.begin(question, 3, 7, Transcript(chat, grammar, question.text), budget)


def turn(chat: ChatFormat, text: str, finish: Finish = "stop") -> Completion:
    ids = [*chat.encode(text), chat.stop_id]
    return Completion(ids, [-0.5] * len(ids), finish, prefilled=3)


def test_an_episode_is_told_what_was_said_and_found_and_ends_as_a_trajectory(chat: ChatFormat) -> None:
    episode = begun(chat)
    episode.heard(turn(chat, "<QUERY> capital of France"), 0.25)
    assert episode.pending_query == "capital of France" and episode.asked_before("capital of France") == 0
    episode.searched("capital of France", HITS, 0.5)
    assert episode.pending_query is None and episode.asked_before("capital of France") == 1
    episode.heard(turn(chat, "<FACT> It is Paris. <FINAL>"), 0.25)
    assert episode.answering and episode.running
    episode.heard(turn(chat, "Paris"), 0.25)
    made = episode.finish("model", "index")
    assert (made.answer, made.stop_reason, made.label) == ("Paris", StopReason.ANSWERED, "q/3")
    assert [(step.query, step.evidence) for step in made.steps] == [("capital of France", "It is Paris.")]
    assert (made.cost.model_seconds, made.cost.search_seconds, made.cost.prefilled_tokens) == (0.75, 0.5, 9)
    said = [id_ for id_, mask in zip(made.token_ids, made.loss_mask, strict=True) if mask]
    assert chat.decode(said).split() == [
        "<QUERY>",
        "capital",
        "of",
        "France<FACT>",
        "It",
        "is",
        "Paris.",
        "<FINAL>Paris",
    ]


@pytest.mark.parametrize(
    ("said", "finish", "reason"),
    [
        ("Paris", "stop", StopReason.MALFORMED),
        ("<QUERY> capital", "length", StopReason.MALFORMED),
        ("<QUERY> capital", "stop", None),
    ],
)
def test_a_turn_that_is_none_or_was_cut_ends_an_episode(
    chat: ChatFormat, said: str, finish: Finish, reason: StopReason | None
) -> None:
    episode = begun(chat)
    episode.heard(turn(chat, said, finish), 0.0)
    assert episode.stop_reason == reason
    assert sum(episode.transcript.loss_mask) == len(turn(chat, said).token_ids), "what was said is kept"


def test_forks_go_on_apart_and_count_together_as_one_sample(chat: ChatFormat) -> None:
    episode = begun(chat)
    episode.heard(turn(chat, "<QUERY> capital"), 1.0)
    episode.searched("capital", HITS, 1.0)
    first, second = episode.fork(3, seed=7)
    first.heard(turn(chat, "<FACT> Paris <FINAL>"), 1.0)
    second.heard(turn(chat, "<FACT> nothing <QUERY> France"), 1.0)
    together = [episode, first, second]
    assert sum(each.share for each in together) == pytest.approx(1)
    assert [each.steps[0].evidence for each in together] == [None, "Paris", "nothing"]
    assert [each.seed for each in together] == [seed_of(QUESTION, 3, 7, branch) for branch in range(3)]
    assert len({each.seed for each in together}) == 3
    assert first.cost.model_seconds == 1.0, "what came before is counted once"
    for each in together:
        each.stop(StopReason.MAX_STEPS)
    assert [each.finish("m", "i").label for each in together] == ["q/3", "q/3.1", "q/3.2"]


@settings(max_examples=60)
@given(
    st.sampled_from(["exsearch", "ircot", "one-shot", "closed-book", "search-r1"]),
    st.integers(40, 700),
    st.integers(4, 40),
    st.integers(1, 4),
    st.integers(10, 80),
    st.integers(1, 4),
    st.integers(1, 60),
)
def test_a_question_is_asked_just_where_its_first_search_has_room(
    chat: ChatFormat, grammar: GrammarName, context: int, turn_tokens: int, steps: int, most: int, k: int, words: int
) -> None:
    config = AgentConfig(
        grammar=grammar, max_steps=steps, passages=k, passage_tokens=most, turn_tokens=turn_tokens, context=context
    )
    question = Question("q", "why " * words, ["x"])
    transcript = Transcript(chat, make_grammar(config), question.text)
    room = Budget(chat, make_grammar(config), config, context).per_passage(transcript, 0)
    assert begun(chat, config, question).running == (room >= MIN_PASSAGE_TOKENS)
