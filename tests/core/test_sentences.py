"""Where sentences end: surely, to take one out of a text, and possibly, to find each in a text."""

from itertools import pairwise

import pytest

from exsearch.core.sentences import sentence_ends, sentence_parts


@pytest.mark.parametrize(
    ("text", "sure", "possible"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"], ["One.", "Two!", "Three?", "Four"]),
        ("J. R. Tolkien met Mr. Lewis.", ["J. R. Tolkien met Mr. Lewis."], ["J.", "R.", "Tolkien met Mr.", "Lewis."]),
        ("It ended. iPods came.", ["It ended. iPods came."], ["It ended.", "iPods came."]),
        ('He left. "She stayed."', ["He left. ", '"She stayed."'], ["He left.", '"She stayed."']),
        ("In 1.5 s.", ["In 1.5 s."], ["In 1.5 s."]),
        ("", [""], [""]),
    ],
)
def test_a_sure_end_is_a_possible_one(text: str, sure: list[str], possible: list[str]) -> None:
    cuts = [0, *sentence_ends(text), len(text)]
    assert [text[a:b] for a, b in pairwise(cuts)] == sure
    assert sentence_parts(text) == possible
