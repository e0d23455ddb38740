"""Thoughts that models write before they answer, which are neither a query nor an answer."""

import re

TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
)
"""Pairs of marks around thoughts: of most families, Magistral, Seed-OSS, Kimi."""
_CLOSED = re.compile("|".join(f"{re.escape(begin)}.*?{re.escape(end)}" for begin, end in TAGS), re.DOTALL)
_BEGIN = re.compile("|".join(re.escape(begin) for begin, _ in TAGS))
_END = re.compile("|".join(re.escape(end) for _, end in TAGS))


def without_thoughts(text: str, begun: bool = False) -> str | None:
    """Return a turn's text without its thoughts; None if it does not get beyond them.

    `begun` says that the prompt has started a thought, which the turn must end. If there is only the end of a thought,
    all before it is thought, since some servers drop the beginning.
    """
    *before, rest = _END.split(_CLOSED.sub("", text)) if not begun else _END.split(text, maxsplit=1)
    if begun:
        return without_thoughts(rest) if before else None
    spoken = _BEGIN.split(rest, maxsplit=1)
    return None if len(spoken) > 1 and not spoken[0].strip() else spoken[0]


def end_of_thoughts(text: str) -> int:
    """Return the position at which the last thought of a text ends; 0 if there is none."""
    return max((match.end() for match in _END.finditer(text)), default=0)


def end_of_begun(prompt: str) -> str | None:
    """Return the mark that ends a thought that a prompt has started but not ended; None if there is none."""
    return next((end for begin, end in TAGS if prompt.rfind(begin) > prompt.rfind(end)), None)
