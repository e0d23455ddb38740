"""Where sentences end in a text."""

import re

_MAY_END = r"(?<=[.!?])\s+"
_NOT_WITHIN = r"(?<!\b[A-Z]\.)(?<!\b(?:St|Mr|Ms|Dr|Jr|Sr|No|vs)\.)(?<!\bMrs\.)"
_NEXT_BEGINS = r"(?=[\"'(`]*[A-Z0-9])"
_ANY_END = re.compile(_MAY_END)
_SURE_END = re.compile(f"{_NOT_WITHIN}{_MAY_END}{_NEXT_BEGINS}")


def sentence_ends(text: str) -> list[int]:
    """Return where the next sentence begins: not behind initials and the commonest abbreviations, nor within one."""
    return [match.end() for match in _SURE_END.finditer(text)]


def sentence_parts(text: str) -> list[str]:
    """Return what stands between any two points where a sentence may end: no part belongs to two sentences.

    To see whether sentences from several places stand there, an abbreviation too many does no harm, an end too few
    does.
    """
    return _ANY_END.split(text)
