"""The errors that servers report in JSON, each in its own way, some with status 200."""

import json
from typing import Any

SHOWN = 200
"""Characters of a server's own words that a message shows."""


def reported(answer: object) -> str | None:
    """Return what a decoded answer says of an error; None if it has no `error`, or an empty one.

    Such an `error` is a text, an object with a `message`, as OpenAI has it, or true with the `message` beside it.
    """
    if not isinstance(answer, dict) or not (error := answer.get("error")):
        return None
    return words({name: answer[name] for name in answer if name != "error"} if error is True else error)


def words(error: Any) -> str:
    """Return what the body of a refusal says: a text, or the `message` (SGLang) or `detail` (FastAPI) of an object."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    said = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    return " ".join(said.split())[:SHOWN] or "no reason given"
