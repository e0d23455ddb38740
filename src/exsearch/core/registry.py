"""Lookup by name: of built-in values and, if a setting allows it, of a user's own as `module:name`."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar

from exsearch.core.errors import UsageError, nearest
from exsearch.core.named import find_own, is_own

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A table of built-in values. The error for an unknown name lists all known names and suggests the nearest one."""

    def __init__(self, noun: str, values: Mapping[str, T], setting: str = "") -> None:
        """Set `values` by name, each called a `noun` in messages; `setting`, if any, also accepts a user's own."""
        self.noun, self.setting = noun, setting
        self._values = dict(values)

    def __getitem__(self, name: str) -> T:
        """Return the built-in value of this name; raises KeyError as a dict does."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the built-in names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of built-in values."""
        return len(self._values)

    def ours(self, name: str) -> T:
        """Return the built-in value of this name; raises UsageError if there is none."""
        if name not in self._values:
            raise UsageError(unknown(self.noun, name, self))
        return self._values[name]

    def ours_or_own(self, name: str) -> T | Any:
        """Return the built-in value of this name, or import the user's own, which the caller has to check.

        Raises UsageError for an unknown name, and for a user's own that cannot be imported.
        """
        if self.setting and name not in self._values and is_own(name):
            return find_own(name, self.setting)
        return self.ours(name)


def unknown(noun: str, name: str, names: Collection[str]) -> str:
    """Return the message for a name that is not among `names`."""
    return f"unknown {noun} {name!r} (known: {', '.join(names)}){nearest(name, names)}"
