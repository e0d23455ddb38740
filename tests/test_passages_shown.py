"""How passages are shortened: the budget holds, and neither a title nor a form hides a text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar, one_line
from exsearch.agent.grammars.known import GRAMMARS
from exsearch.agent.transcript import Transcript
from exsearch.config import GrammarName
from exsearch.corpus.passage import Passage
from exsearch.engine.base import TokenIds
from exsearch.retrieval.base import Hit

NAMES: list[GrammarName] = [name for name in GRAMMARS if name != "closed-book"]
words = st.lists(st.text("abcdefgh", min_size=1, max_size=7), max_size=120).map(" ".join)
anything = st.text(max_size=300)
SLACK = 3
"""Tokens at the seams of title, text and form, which may be one where they meet."""


def shown(chat: ChatFormat, grammar: Grammar, passages: list[tuple[str, str]], budget: int) -> tuple[TokenIds, int]:
    """The tokens of the passages alone, and how many were shortened."""
    hits = [Hit(Passage(str(rank), *each), 1.0, rank) for rank, each in enumerate(passages, start=1)]
    with_them, without = (Transcript(chat, grammar, "?") for _ in range(2))
    with_them.show(hits, budget)
    without.show([], budget)
    before = len(Transcript(chat, grammar, "?").token_ids)
    around = len(without.token_ids) - before
    end = len(chat.encode(grammar.search_footer())) + len([] if grammar.stops else chat.open_assistant)
    header = around - end
    return with_them.token_ids[before + header : len(with_them.token_ids) - end], with_them.shortened_passages


def cut_at_the_end(chat: ChatFormat, grammar: Grammar, passages: list[tuple[str, str]], budget: int) -> TokenIds:
    """The passages as they are shown where no title is long: each cut at its end."""
    ids: TokenIds = []
    left = budget - len(chat.encode(grammar.search_header()))
    for rank, passage in enumerate(passages, start=1):
        share = max(left // (len(passages) - rank + 1), 0)
        whole = chat.encode(grammar.passage(rank, *passage))[:share]
        ids, left = ids + whole, left - len(whole)
    return ids


def form(chat: ChatFormat, grammar: Grammar) -> int:
    return len(chat.encode(grammar.passage(1, "", "")))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=4), st.integers(0, 400))
def test_the_budget_holds_and_what_fits_is_shown_as_it_is(
    chat: ChatFormat, name: GrammarName, passages: list[tuple[str, str]], budget: int
) -> None:
    grammar = GRAMMARS[name]()
    ids, shortened = shown(chat, grammar, passages, budget)
    header = len(chat.encode(grammar.search_header()))
    assert len(ids) <= max(budget - header, 0)
    whole = [chat.encode(grammar.passage(rank, *passage)) for rank, passage in enumerate(passages, start=1)]
    if shortened == 0:
        assert ids == [token for each in whole for token in each]
    if all(len(each) <= (budget - header) // len(passages) for each in whole):
        assert shortened == 0


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(words, words, st.integers(16, 200))
def test_a_text_has_at_least_half_of_what_the_form_leaves(
    chat: ChatFormat, name: GrammarName, title: str, text: str, room: int
) -> None:
    grammar = GRAMMARS[name]()
    budget = room + len(chat.encode(grammar.search_header()))
    ids, _ = shown(chat, grammar, [(title, text)], budget)
    written = chat.decode(ids).removesuffix(grammar.passage_end)
    visible = next(length for length in range(len(text), -1, -1) if written.endswith(text[:length]))
    assert written.endswith(text[:visible])
    needed = len(chat.encode(f" {text}"))
    tokens = len(chat.encode(f" {text[:visible]}")) if visible else 0
    assert tokens >= min(needed, (room - form(chat, grammar)) // 2) - SLACK


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(st.lists(st.tuples(st.text("abcd ", max_size=12), words), min_size=1, max_size=4), st.integers(80, 160))
def test_passages_with_short_titles_are_cut_at_their_ends_as_ever(
    chat: ChatFormat, name: GrammarName, passages: list[tuple[str, str]], share: int
) -> None:
    grammar = GRAMMARS[name]()
    budget = share * len(passages)
    ids, shortened = shown(chat, grammar, passages, budget)
    expected = cut_at_the_end(chat, grammar, passages, budget)
    if not grammar.passage_end or not shortened:
        assert ids == expected
    else:
        assert len(ids) == len(expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_title_longer_than_the_budget_does_not_hide_the_text(chat: ChatFormat, name: GrammarName) -> None:
    title = "Lomb lamp " + " ".join(f"word{number}" for number in range(400))
    passages = [(title, "The lamp of Lomb is green."), ("Kelp", "The kelp of Lomb is old. " * 60), ("Varn", "Short.")]
    grammar = GRAMMARS[name]()
    ids, shortened = shown(chat, grammar, passages, 480)
    text = chat.decode(ids)
    assert shortened == 2
    for seen in ("Lomb lamp word0 word1", "The lamp of Lomb is green.", "The kelp of Lomb is old.", "Varn", "Short."):
        assert seen in text
    assert text.count("word") > 20, "the title gets what the text leaves"


def test_a_shortened_passage_of_r1_searcher_keeps_its_line_feed(chat: ChatFormat) -> None:
    grammar = GRAMMARS["r1-searcher"]()
    passages = [("Kelp", "The kelp of Lomb is old. " * 60), ("Varn", "The varn is short."), ("Kelp", "old. " * 200)]
    ids, shortened = shown(chat, grammar, passages, 240)
    lines = chat.decode(ids).split("\n")
    assert shortened == 2
    assert [line[:7] for line in lines] == ["(1)Kelp", "(2)Varn", "(3)Kelp", ""]


def test_a_title_without_blanks_is_cut_too(chat: ChatFormat) -> None:
    ids, _ = shown(chat, GRAMMARS["exsearch"](), [("x" * 3000, one_line("The lamp is green."))], 60)
    assert chat.decode(ids).endswith("x Content: The lamp is green.")
