"""How passages are shortened: the budget holds, and neither a title nor a form hides a text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar, one_line
from exsearch.agent.grammars.registry import GRAMMARS
from exsearch.agent.transcript import Transcript
from exsearch.config import GrammarName
from exsearch.corpus.passage import Hit, Passage

NAMES: list[GrammarName] = [name for name in GRAMMARS if name != "closed-book"]
words = st.lists(st.text("abcdefgh", min_size=1, max_size=7), max_size=120).map(" ".join)
# The embedded model's vocabulary lacks the bytes of a few control characters and of planes without characters.
writable = st.characters(codec="utf-8", max_codepoint=0x3FFFF, exclude_characters="\x04\x06\x13\x14\x16\x1d")
anything = st.text(writable, max_size=300)
SLACK = 3
"""Tokens at the seams of title, text and form, which may be one where they meet."""


def shown(chat: ChatFormat, grammar: Grammar, passages: list[tuple[str, str]], budget: int) -> tuple[str, int]:
    """Only the text of the passages, and how many were shortened. Header and passages must keep to the budget."""
    hits = [Hit(Passage(str(rank), *each), 1.0, rank) for rank, each in enumerate(passages, start=1)]
    transcript = Transcript(chat, grammar, "?")
    before = len(transcript.token_ids)
    without = len(transcript._user_says(grammar.search_footer()))
    transcript.show(hits, budget)
    given = transcript.token_ids[before:]
    assert len(given) <= without + max(budget, len(chat.encode(grammar.search_header())))
    text = chat.decode(given) if grammar.stops else chat.messages(transcript.token_ids)[-1]["content"]
    return text.partition(grammar.search_header())[2].removesuffix(
        grammar.search_footer()
    ), transcript.shortened_passages


def cut_at_the_end(chat: ChatFormat, grammar: Grammar, passages: list[tuple[str, str]], budget: int) -> str:
    """The passages as they are shown where no title is long: each cut at its end."""
    text = ""
    left = budget - len(chat.encode(grammar.search_header()))
    for rank, passage in enumerate(passages, start=1):
        share = max(left // (len(passages) - rank + 1), 0)
        whole = chat.encode(grammar.passage(rank, *passage))[:share]
        text, left = text + chat.decode(whole), left - len(whole)
    return text


def form(chat: ChatFormat, grammar: Grammar) -> int:
    return len(chat.encode(grammar.passage(1, "", "")))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=4), st.integers(0, 400))
def test_the_budget_holds_and_what_fits_is_shown_as_it_is(
    chat: ChatFormat, name: GrammarName, passages: list[tuple[str, str]], budget: int
) -> None:
    grammar = GRAMMARS[name]()
    text, shortened = shown(chat, grammar, passages, budget)
    header = len(chat.encode(grammar.search_header()))
    whole = [grammar.passage(rank, *passage) for rank, passage in enumerate(passages, start=1)]
    if shortened == 0:
        assert text == "".join(whole)
    if all(len(chat.encode(each)) + SLACK <= (budget - header) // len(passages) for each in whole):
        assert shortened == 0


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(words, words, st.integers(16, 200))
def test_a_text_has_at_least_half_of_what_the_form_leaves(
    chat: ChatFormat, name: GrammarName, title: str, text: str, room: int
) -> None:
    grammar = GRAMMARS[name]()
    budget = room + len(chat.encode(grammar.search_header()))
    written = shown(chat, grammar, [(title, text)], budget)[0].removesuffix(grammar.passage_end)
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
    text, shortened = shown(chat, grammar, passages, budget)
    expected = cut_at_the_end(chat, grammar, passages, budget)
    whole = chat.encode(grammar.search_header() + expected + grammar.search_footer())
    fits = len(whole) <= budget + len(chat.encode(grammar.search_footer()))  # seams may have tokens of their own
    if (not grammar.passage_end or not shortened) and fits:
        assert text == expected
    else:
        assert len(chat.encode(expected)) - SLACK <= len(chat.encode(text)) <= len(chat.encode(expected))


@pytest.mark.parametrize("name", NAMES)
def test_a_title_longer_than_the_budget_does_not_hide_the_text(chat: ChatFormat, name: GrammarName) -> None:
    title = "Lomb lamp " + " ".join(f"word{number}" for number in range(400))
    passages = [(title, "The lamp of Lomb is green."), ("Kelp", "The kelp of Lomb is old. " * 60), ("Varn", "Short.")]
    grammar = GRAMMARS[name]()
    text, shortened = shown(chat, grammar, passages, 480)
    assert shortened == 2
    for seen in ("Lomb lamp word0 word1", "The lamp of Lomb is green.", "The kelp of Lomb is old.", "Varn", "Short."):
        assert seen in text
    assert text.count("word") > 20, "the title gets what the text leaves"


def test_a_shortened_passage_of_r1_searcher_keeps_its_line_feed(chat: ChatFormat) -> None:
    grammar = GRAMMARS["r1-searcher"]()
    passages = [("Kelp", "The kelp of Lomb is old. " * 60), ("Varn", "The varn is short."), ("Kelp", "old. " * 200)]
    text, shortened = shown(chat, grammar, passages, 240)
    lines = text.split("\n")
    assert shortened == 2
    assert [line[:7] for line in lines] == ["(1)Kelp", "(2)Varn", "(3)Kelp", ""]


def test_a_title_without_blanks_is_cut_too(chat: ChatFormat) -> None:
    text, _ = shown(chat, GRAMMARS["exsearch"](), [("x" * 3000, one_line("The lamp is green."))], 60)
    assert text.endswith("x Content: The lamp is green.")
