"""What a user names of their own, as `module:name`, beside what comes with ExSearch."""

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exsearch.core.errors import UsageError, nearest

_OWN = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_own(name: str) -> bool:
    """Return whether a name has the form `module:name`."""
    return _OWN.fullmatch(name) is not None


def require_known(section: msgspec.Struct, names: Mapping[str, Sequence[str]], source: str, prefix: str = "") -> None:
    """Raise UsageError where a setting names something that is neither ours nor of the form `module:name`.

    `names` has, by the fields that name something, what of ours there is; `source` names the settings in errors.
    """
    for field in section.__struct_fields__:
        value = getattr(section, field)
        if isinstance(value, msgspec.Struct):
            require_known(value, names, source, f"{prefix}{field}.")
        elif field in names and value not in names[field] and not is_own(value):
            raise UsageError(
                f"{source}: {prefix + field!r} must be one of {', '.join(names[field])}, or your own as module:name, "
                f'not "{value}"'
            )


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
