"""The project's grammar with a further action between search and record: the model selects the passages that it reads.

It is the selection of documents that the paper adds to its actions (arXiv 2505.20128), in this project's wording.
"""

import re
from typing import ClassVar

from exsearch.agent.grammar import Action, ExSearchGrammar, MalformedError

_LATER = re.compile(r"\s*<SELECT>(?P<numbers>[^<]*)(?P<rest><FACT>.*)", re.DOTALL)
_NOTHING = "none"


class SelectingGrammar(ExSearchGrammar):
    """`<SELECT> 2, 1` names the passages that help, the most useful first, or none; `<FACT>` records what they say."""

    name = "exsearch-select"
    selects = True
    tags = (*ExSearchGrammar.tags, "<SELECT>")
    instruction: ClassVar[str] = (
        "Answer the question by searching. Write <QUERY> and what to look up. After each search write <SELECT> and the "
        "numbers of the passages that help, or none, then <FACT> and what you found in them, then the next <QUERY>, or "
        "<FINAL> once you know enough."
    )

    def turn(self, action: Action) -> str:
        """Return the model's turn for an action; `parse` reads it back."""
        if action.evidence is None:
            return super().turn(action)
        return f"<SELECT> {', '.join(map(str, action.selected)) or _NOTHING} {super().turn(action)}"

    def parse(self, text: str, first: bool) -> Action:
        """Read a turn; raise MalformedError if it is not exactly one, or if a passage is named twice."""
        if first:
            return super().parse(text, first)
        match = _LATER.fullmatch(text)
        if match is None:
            raise MalformedError(text)
        action = super().parse(match["rest"], first)
        return Action(action.evidence, action.query, selected=_numbers(match["numbers"], text))


def _numbers(written: str, text: str) -> tuple[int, ...]:
    """Return the numbers in `written`. Raises MalformedError, with the whole `text`, if it is anything else."""
    if written.strip() == _NOTHING:
        return ()
    parts = [part.strip() for part in written.split(",")]
    if not all(re.fullmatch(r"[1-9][0-9]{0,3}", part) for part in parts) or len({*parts}) < len(parts):
        raise MalformedError(text)
    return tuple(map(int, parts))
