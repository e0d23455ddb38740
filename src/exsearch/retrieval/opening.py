"""Opening whatever a user names as an index."""

import re
from pathlib import Path

from exsearch.errors import UsageError
from exsearch.retrieval.base import Retriever

_REPLAY = "replay:"


def open_retriever(
    location: str, corpus: Path | None = None, record_to: Path | None = None, seconds: float = 60.0
) -> Retriever:
    """Open a retriever by its location.

    That is an index folder, whose corpus is at `corpus` if it has moved; the URL of a server, which remote.py
    describes; or `replay:FILE`, recorded searches (`replay:FILE#FINGERPRINT` where FILE has those of several
    indexes). With `record_to`, searches are answered from that file where it has them, and else recorded in it. A
    server is given `seconds` for an answer.

    Raises UsageError for a location that cannot be opened, RetrievalError if no server answers there.
    """
    if record_to is None:
        return _open(location, corpus, seconds)
    if location.startswith(_REPLAY):
        raise UsageError(f"{location}: is a recording already; name an index, or no file to record to")
    from exsearch.retrieval.replay import Recorder

    return Recorder(_open(location, corpus, seconds), record_to)


def _open(location: str, corpus: Path | None, seconds: float) -> Retriever:
    if location.startswith(_REPLAY):
        from exsearch.retrieval.replay import Replay

        file, *fingerprint = re.split(r"#(?=[0-9a-f]{16}$)", location.removeprefix(_REPLAY))
        return Replay(Path(file), *fingerprint)
    if "://" in location:
        from exsearch.retrieval.remote import Remote

        return Remote(location, seconds)
    from exsearch.retrieval.index import open_index

    return open_index(Path(location), corpus)
