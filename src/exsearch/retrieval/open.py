"""Opens whatever a user names as an index."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exsearch.core.errors import UsageError
from exsearch.core.named import find_own, is_own
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.checked import CheckedRetriever

if TYPE_CHECKING:
    from exsearch.corpus.store import Corpus

_REPLAY = "replay:"


class Opened(NamedTuple):
    """An index that is open."""

    retriever: Retriever
    corpus: "Corpus | None"
    """Of an index folder; None for a server, a recording, or a user's own retriever."""


def open_retriever(
    location: str, corpus: Path | None = None, record_to: Path | None = None, seconds: float = 60.0
) -> Retriever:
    """Open a retriever as `open_located` does, and return it without its corpus."""
    return open_located(location, corpus, record_to, seconds).retriever


def open_located(
    location: str, corpus: Path | None = None, record_to: Path | None = None, seconds: float = 60.0
) -> Opened:
    """Open a retriever by its location.

    A location is an index folder, whose corpus is at `corpus` if it has moved; the URL of a server (see remote.py);
    `replay:FILE`, recorded searches (`replay:FILE#FINGERPRINT` if FILE has those of several indexes); or `module:name`,
    a user's own class or function that returns a retriever when called without arguments. With `record_to`,
    searches are answered from that file where it has them, and otherwise recorded in it. A server has `seconds` to
    answer.

    Raises UsageError for a location that cannot be opened, and RetrievalError if no server answers there.
    """
    if record_to is None:
        return _open(location, corpus, seconds)
    if is_replay(location):
        raise UsageError(f"{location}: is already a recording; name an index, or do not set data.record")
    from exsearch.retrieval.replay import Recorder

    opened = _open(location, corpus, seconds)
    return opened._replace(retriever=Recorder(opened.retriever, record_to))


def is_replay(location: str) -> bool:
    """Return whether the location is a recording."""
    return location.startswith(_REPLAY)


def is_own_retriever(location: str) -> bool:
    """Return whether the location names a user's own retriever, rather than a folder."""
    return is_own(location) and not is_replay(location) and not Path(location).exists()


def _own(location: str) -> Retriever:
    make = find_own(location, "data.index")
    if not callable(make):
        raise UsageError(f"{location}: not a class or function that returns a retriever")
    retriever: Retriever = make()
    if not callable(getattr(retriever, "search", None)) or not isinstance(getattr(retriever, "fingerprint", None), str):
        raise UsageError(f"{location}: returned no retriever, which needs `search` and `fingerprint`")
    return CheckedRetriever(retriever)


def _open(location: str, corpus: Path | None, seconds: float) -> Opened:
    if is_replay(location):
        from exsearch.retrieval.replay import Replay

        file, *fingerprint = re.split(r"#(?=[0-9a-f]{16}$)", location.removeprefix(_REPLAY))
        return Opened(Replay(Path(file), *fingerprint), None)
    if is_own_retriever(location):
        return Opened(_own(location), None)
    if "://" in location:
        from exsearch.retrieval.remote import Remote

        return Opened(Remote(location, seconds), None)
    from exsearch.retrieval.index.open import open_with_corpus

    return Opened(*open_with_corpus(Path(location), corpus))
