"""Finds the sentence of a paragraph that states an answer, for sources that only name the paragraph."""

import re
from itertools import pairwise

from exsearch.core.sentences import sentence_ends

_WORD = re.compile(r"\w+")


def sentence_with(answer: str, question: str, text: str) -> str | None:
    """Return the sentence of `text` with the answer that shares the most words with the question; None if there is
    none.

    No sentence ends within the answer, even if that has full stops.
    """
    answers = [match.span() for match in re.finditer(re.escape(answer), text)]
    ends = (end for end in sentence_ends(text) if not any(start < end < stop for start, stop in answers))
    cuts = [0, *ends, len(text)]
    holding = [sentence.strip() for sentence in (text[a:b] for a, b in pairwise(cuts)) if answer in sentence]
    question_words = _words(question)
    return max(holding, key=lambda sentence: len(question_words & _words(sentence)), default=None)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
