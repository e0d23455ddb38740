"""The grammar: what is rendered is read back, and a turn that is not exactly one is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.grammar import Action, ExSearchGrammar, MalformedError

GRAMMAR = ExSearchGrammar()
TAGS = ["<QUERY>", "<THINK>", "<FACT>", "<FINAL>", "<SEARCH>", "<USER QUERY>"]
words = st.text(max_size=40).filter(lambda text: not any(tag in " ".join(text.split()) for tag in TAGS))
queries = words.filter(lambda text: text.strip() != "")


def one_line(text: str) -> str:
    return " ".join(text.split())


@given(queries)
def test_a_first_turn_is_read_back_as_it_was_written(query: str) -> None:
    assert GRAMMAR.parse(GRAMMAR.turn(Action(None, query)), first=True) == Action(None, one_line(query))


@given(words, st.none() | queries)
def test_a_later_turn_is_read_back_as_it_was_written(evidence: str, query: str | None) -> None:
    expected = Action(one_line(evidence), None if query is None else one_line(query))
    assert GRAMMAR.parse(GRAMMAR.turn(Action(evidence, query)), first=False) == expected


@given(queries)
def test_think_is_read_as_query(query: str) -> None:
    assert GRAMMAR.parse(f"<THINK> {query}", first=True) == GRAMMAR.parse(f"<QUERY> {query}", first=True)
    later = f"<FACT> known <THINK> {query}"
    assert GRAMMAR.parse(later, first=False) == Action("known", query.strip())


@pytest.mark.parametrize(
    "turn",
    [
        "",
        "who was it",
        "<FINAL>",
        "<FACT> x <FINAL>",
        "<FACT> x <QUERY> y",
        "<QUERY>",
        "<QUERY>  \n ",
        "<QUERY> a <QUERY> b",
        "<QUERY> a <FACT> b",
        "<QUERY> a <FINAL>",
        "<QUERY> a <SEARCH> [1] Title: forged",
        "I think <QUERY> a",
        "<query> a",
    ],
)
def test_a_first_turn_that_is_not_one_query_is_malformed(turn: str) -> None:
    with pytest.raises(MalformedError):
        GRAMMAR.parse(turn, first=True)


@pytest.mark.parametrize(
    "turn",
    [
        "",
        "<QUERY> a",
        "<FINAL>",
        "<FACT> a",
        "<FACT> a <QUERY>",
        "<FACT> a <QUERY>  ",
        "<FACT> a <FINAL> Paris",
        "<FACT> a <FINAL> <QUERY> b",
        "<FACT> a <FINAL><FINAL>",
        "<FACT> a <FACT> b <FINAL>",
        "<FACT> a <QUERY> b <QUERY> c",
        "<FACT> a <QUERY> b <FINAL>",
        "<FACT> a <SEARCH> b <FINAL>",
        "so <FACT> a <FINAL>",
    ],
)
def test_a_later_turn_that_is_not_evidence_and_one_decision_is_malformed(turn: str) -> None:
    with pytest.raises(MalformedError):
        GRAMMAR.parse(turn, first=False)


@given(st.lists(st.one_of(st.sampled_from(TAGS), st.text(max_size=5)), max_size=6).map("".join), st.booleans())
def test_whatever_the_model_says_is_one_action_or_malformed(turn: str, first: bool) -> None:
    try:
        action = GRAMMAR.parse(turn, first)
    except MalformedError:
        return
    assert (action.evidence is None) == first
    assert action.query is None or action.query.strip() == action.query != ""
    assert not any(tag in (action.evidence or "") + (action.query or "") for tag in TAGS)
    assert GRAMMAR.parse(GRAMMAR.turn(action), first).query == (
        None if action.query is None else one_line(action.query)
    )


@given(st.text(), st.sampled_from(TAGS), st.text())
def test_an_answer_is_what_is_said_unless_a_tag_is_in_it(before: str, tag: str, after: str) -> None:
    with pytest.raises(MalformedError):
        GRAMMAR.read_answer(before + tag + after)
    if not GRAMMAR.has_tag(before + after):
        assert GRAMMAR.read_answer(before + after) == (before + after).strip()


@given(st.text(), st.text(), st.integers(1, 20))
def test_a_passage_is_one_line_after_a_line_break(title: str, text: str, number: int) -> None:
    shown = GRAMMAR.passage(number, title, text)
    assert shown.startswith(f"\n[{number}] Title:")
    assert len(shown.splitlines()) == 2


def test_the_fingerprint_follows_the_wording(monkeypatch: pytest.MonkeyPatch) -> None:
    before = GRAMMAR.fingerprint
    assert before == ExSearchGrammar().fingerprint
    monkeypatch.setattr(ExSearchGrammar, "instruction", "Search.")
    assert GRAMMAR.fingerprint != before
