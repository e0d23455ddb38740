"""What a user names of their own, as `module:name`, beside what comes with ExSearch."""

import importlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from exsearch.core.errors import UsageError, nearest

_OWN = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*"


def is_own(name: str) -> bool:
    """Return whether a name has the form `module:name`."""
    return re.fullmatch(_OWN, name) is not None


def ours_or_own(ours: Sequence[str]) -> msgspec.Meta:
    """Return the limits of a text that names one of `ours`, or what the user names as `module:name`.

    A message about another text says which of the `names` in their `extra` comes near.
    """
    known = "|".join(map(re.escape, ours))
    words = f"one of {', '.join(ours)}, or your own as module:name"
    return msgspec.Meta(pattern=rf"\A(?:{known}|{_OWN})\Z", description=words, extra={"names": [*ours]})


def find_own(name: str, key: str) -> Any:
    """Import what `module:name` names; `key` is the setting that names it. Raises UsageError if it is not there.

    What fails within the module's own code is told with its kind, since it is the user's to mend.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UsageError(f"{key} = {name}: importing {module} failed: {error}") from error
        raise UsageError(
            f"{key} = {name}: there is no module {error.name!r} where Python looks; name its folder in PYTHONPATH"
        ) from None
    except Exception as error:
        raise UsageError(f"{key} = {name}: importing {module} failed: {type(error).__name__}: {error}") from error
    if not hasattr(found, attribute):
        raise UsageError(f"{key} = {name}: module {module} has no {attribute}{nearest(attribute, dir(found))}")
    return getattr(found, attribute)
