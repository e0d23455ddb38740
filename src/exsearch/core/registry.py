"""What goes by a name: in a table of ours, and, where a setting takes it, a user's own as `module:name`."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar

from exsearch.core.errors import UsageError, nearest
from exsearch.core.named import find_own, is_own

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A table of ours. A name that is not in it is refused with all that are, and the nearest of them."""

    def __init__(self, noun: str, values: Mapping[str, T], setting: str = "") -> None:
        """Let `values` go by their names, each called a `noun` in messages; `setting` also takes a user's own."""
        self.noun, self.setting = noun, setting
        self._values = dict(values)

    def __getitem__(self, name: str) -> T:
        """Return ours of this name; raises KeyError as a dict does."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over our names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many are ours."""
        return len(self._values)

    def ours(self, name: str) -> T:
        """Return ours of this name; raises UsageError if there is none."""
        if name not in self._values:
            raise UsageError(unknown(self.noun, name, self))
        return self._values[name]

    def ours_or_own(self, name: str) -> T | Any:
        """Return ours of this name or import the user's own, which the caller has to check.

        Raises UsageError for one that is neither, or not where it is said to be.
        """
        if self.setting and name not in self._values and is_own(name):
            return find_own(name, self.setting)
        return self.ours(name)


def unknown(noun: str, name: str, known: Collection[str]) -> str:
    """Return what to say of a name that is not among the known ones."""
    return f"unknown {noun} {name!r} (known: {', '.join(known)}){nearest(name, known)}"
