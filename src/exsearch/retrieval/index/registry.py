"""All kinds of index: those built segment by segment, and those whose parts are indexes themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeGuard, cast

import msgspec

from exsearch.core.registry import Registry
from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.index.folder import OpenedIndex
from exsearch.retrieval.index.kinds import SEGMENTED, IndexKind, load_class, typed

KINDS = Registry("retriever kind", {**SEGMENTED, "hybrid": "exsearch.retrieval.hybrid:Hybrid"})


class Composite(Protocol):
    """Interface of a kind's class whose parts are indexes themselves, in subfolders; it has no segments.

    Building and opening a part are passed in, since only the caller knows all kinds, this one included.
    """

    Parameters: type[msgspec.Struct]
    version: ClassVar[int]
    """Version of its own files, not those of its parts."""

    def __call__(self, opened: OpenedIndex, open_member: Callable[[Path, Path, str], Retriever]) -> Retriever:
        """Open the index. Raises OSError or one of DAMAGE if its files are damaged.

        `open_member` takes the folder of a part, that of its corpus, and the command that builds the whole index again.
        """
        ...

    def build_members(self, corpus: Corpus, folder: Path, parameters: Any, build: Callable[..., Path]) -> None:
        """Build the parts in `folder`, or update them.

        `build` takes the corpus, the kind, the folder of the part, and the part's parameters by name.
        """
        ...


def kind_class(kind: str) -> IndexKind | Composite:
    """Import a kind's class. Raises UsageError for an unknown kind."""
    return cast(IndexKind | Composite, load_class(KINDS.ours(kind)))


def is_composite(kind: IndexKind | Composite) -> TypeGuard[Composite]:
    """Return whether the kind's parts are indexes themselves."""
    return hasattr(kind, "build_members")


def check_parameters(kind: str, parameters: dict[str, Any]) -> Any:
    """Return `parameters` as the kind's typed ones, with defaults. Raises UsageError for unknown or wrong ones."""
    return typed(kind, parameters, kind_class(kind).Parameters)
