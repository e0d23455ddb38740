"""Reads the errors that servers report in JSON, each in its own form, some with status 200."""

import json
from typing import Any

SHOWN = 200
"""Maximum characters of a server's message to show."""


def reported(answer: object) -> str | None:
    """Return the error message in a decoded answer; None if it has no `error`, or an empty one.

    The `error` is a text, an object with a `message`, as in OpenAI's form, or true with a `message` next to it.
    """
    if not isinstance(answer, dict) or not (error := answer.get("error")):
        return None
    return words({name: answer[name] for name in answer if name != "error"} if error is True else error)


def words(error: Any) -> str:
    """Return the message in the body of a refusal: a text, or the `message` (SGLang) or `detail` (FastAPI) of an
    object."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    return " ".join(text.split())[:SHOWN] or "no reason given"
