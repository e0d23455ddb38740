"""Passages: no longer than asked for, nothing lost, borders at sentences and lines."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from exsearch.documents.cutting import Piece, cut
from exsearch.documents.document import Block, Document

sentences = st.lists(st.integers(1, 12), min_size=1, max_size=6).map(
    lambda lengths: " ".join(" ".join(["word"] * (length - 1) + ["End."]).capitalize() for length in lengths)
)
blocks = st.builds(
    Block,
    text=sentences | st.lists(st.just("x = 1"), min_size=1, max_size=9).map("\n".join),
    headings=st.sampled_from([("A",), ("A", "B"), ("C",)]),
    place=st.sampled_from(["p", "L7", "page=2"]),
    is_lines=st.booleans(),
)


@given(st.lists(blocks, max_size=12), st.integers(5, 60))
def test_no_passage_is_too_long_and_no_word_is_lost(given: list[Block], words: int) -> None:
    count = itertools.count()
    numbered = [  # each word once, so that passages can be told apart
        Block(re.sub(r"\S+", lambda word: f"{word[0]}{next(count)}", block.text), *_rest(block)) for block in given
    ]
    pieces = list(cut(Document("", numbered), words))
    assert all(0 < len(piece.text.split()) <= words for piece in pieces)
    assert list(dict.fromkeys(_words(pieces))) == [word for block in numbered for word in block.text.split()]
    for one, other in itertools.pairwise(pieces):
        assert not set(other.text.split()) <= set(one.text.split())


def _words(pieces: list[Piece]) -> list[str]:
    return [word for piece in pieces for word in piece.text.split()]


def _rest(block: Block) -> tuple[tuple[str, ...], str, bool]:
    return block.headings, block.place, block.is_lines


def test_passages_end_at_sentences_and_overlap_by_some() -> None:
    text = " ".join(f"Sentence {number} says as much as any other one does." for number in range(30))
    pieces = [piece.text for piece in cut(Document("", [Block(text)]), 50)]
    assert all(piece.startswith("Sentence") and piece.endswith("does.") for piece in pieces)
    for one, other in itertools.pairwise(pieces):
        assert one.split("\n")[-1].rpartition(". ")[2] == other.partition(". ")[0] + "."


def test_abbreviations_end_no_sentence() -> None:
    text = "Dr. A. Quill of the U.S. Navy built it, e.g. the lamp. It burns."
    assert [piece.text for piece in cut(Document("", [Block(text)]), 12)] == [
        "Dr. A. Quill of the U.S. Navy built it, e.g. the lamp.",
        "It burns.",
    ]


def test_a_new_heading_begins_a_passage_and_lines_keep_their_numbers() -> None:
    code = "\n".join(f"line {number}" for number in range(1, 9))
    given = [Block("One.", ("A",), "a"), Block("Two.", ("A", "B"), "b"), Block(code, (), "L3", is_lines=True)]
    assert list(cut(Document("", given), 10)) == [
        Piece(("A",), "a", "One."),
        Piece(("A", "B"), "b", "Two."),
        Piece((), "L3", "line 1\nline 2\nline 3\nline 4\nline 5"),
        Piece((), "L7", "line 5\nline 6\nline 7\nline 8"),
    ]


def test_a_paragraph_is_kept_whole_where_the_passage_before_it_is_half_full() -> None:
    given = [Block(" ".join(["one"] * 30)), Block(" ".join(["two"] * 30 + ["end."] + ["Three"] * 9))]
    assert [len(piece.text.split()) for piece in cut(Document("", given), 50)] == [30, 40]


def test_data_without_spaces_is_divided() -> None:
    pieces = list(cut(Document("", [Block("x" * 5000 + " end.")]), 10))
    assert "".join(piece.text for piece in pieces).replace(" ", "").startswith("x" * 5000)
    assert all(len(piece.text) <= 10 * 201 for piece in pieces)
