"""Finds the ends of sentences in a text."""

import re

_MAY_END = r"(?<=[.!?])\s+"
_NOT_WITHIN = r"(?<!\b[A-Z]\.)(?<!\b(?:St|Mr|Ms|Dr|Jr|Sr|No|vs)\.)(?<!\bMrs\.)"
_NEXT_BEGINS = r"(?=[\"'(`]*[A-Z0-9])"
_ANY_END = re.compile(_MAY_END)
_SURE_END = re.compile(f"{_NOT_WITHIN}{_MAY_END}{_NEXT_BEGINS}")


def sentence_ends(text: str) -> list[int]:
    """Return where the next sentence starts; initials and the most common abbreviations do not end a sentence."""
    return [match.end() for match in _SURE_END.finditer(text)]


def sentence_parts(text: str) -> list[str]:
    """Split a text at every point where a sentence may end, so that no part belongs to two sentences.

    For checking whether sentences from several places occur in a text: splitting at an abbreviation does no harm, but
    missing the end of a sentence does.
    """
    return _ANY_END.split(text)
