"""What models think before they speak, which is neither a query nor an answer."""

import re

TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
)
"""Between which they think: most families, Magistral, Seed-OSS, Kimi."""
_CLOSED = re.compile("|".join(f"{re.escape(begin)}.*?{re.escape(end)}" for begin, end in TAGS), re.DOTALL)
_BEGIN = re.compile("|".join(re.escape(begin) for begin, _ in TAGS))
_END = re.compile("|".join(re.escape(end) for _, end in TAGS))


def without_thoughts(text: str, begun: bool = False) -> str | None:
    """Return what a turn says besides its thoughts; None if it does not get beyond them.

    `begun` says that the prompt has begun a thought, which the turn must end. Where the end of one stands alone, all
    before it was thought: servers drop the beginning.
    """
    *before, rest = _END.split(_CLOSED.sub("", text)) if not begun else _END.split(text, maxsplit=1)
    if begun:
        return without_thoughts(rest) if before else None
    spoken = _BEGIN.split(rest, maxsplit=1)
    return None if len(spoken) > 1 and not spoken[0].strip() else spoken[0]


def end_of_thoughts(text: str) -> int:
    """Return where the last thought of a text ends; 0 if there is none."""
    return max((match.end() for match in _END.finditer(text)), default=0)


def end_of_begun(prompt: str) -> str | None:
    """Return with what a thought ends that a prompt has begun and not ended; None if there is none."""
    return next((end for begin, end in TAGS if prompt.rfind(begin) > prompt.rfind(end)), None)
