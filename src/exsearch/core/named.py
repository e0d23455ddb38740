"""What users name of their own, as `module:name`, in addition to what comes with ExSearch."""

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
    """Return the constraints of a text that names one of `ours`, or something of the user's own as `module:name`.

    An error about another text suggests the closest of the `names` in their `extra`.
    """
    alternatives = "|".join(map(re.escape, ours))
    words = f"one of {', '.join(ours)}, or your own as module:name"
    return msgspec.Meta(pattern=rf"\A(?:{alternatives}|{_OWN})\Z", description=words, extra={"names": [*ours]})


def find_own(name: str, key: str) -> Any:
    """Import what `module:name` names; `key` is the setting that names it. Raises UsageError if it cannot be imported.

    An error in the module's own code is reported with its type, since the user has to fix it.
    """
    module, _, attribute = name.partition(":")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UsageError(f"{key} = {name}: importing {module} failed: {error}") from error
        raise UsageError(
            f"{key} = {name}: there is no module {error.name!r} where Python looks; name its folder in PYTHONPATH"
        ) from None
    except Exception as error:
        raise UsageError(f"{key} = {name}: importing {module} failed: {type(error).__name__}: {error}") from error
    if not hasattr(imported, attribute):
        raise UsageError(f"{key} = {name}: module {module} has no {attribute}{nearest(attribute, dir(imported))}")
    return getattr(imported, attribute)
