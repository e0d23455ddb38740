"""The two kinds of failure a user meets. Both print as one line, without a traceback."""

from collections.abc import Iterable


class ExSearchError(Exception):
    """Something failed that is not the user's fault, such as a full disk. Exit code 1.

    >>> issubclass(xs.UsageError, xs.ExSearchError)
    True
    """

    exit_code = 1


class UsageError(ExSearchError):
    """The input is wrong: a file, a config key, a flag. The message says what and where. Exit code 2.

    >>> xs.open_index("work/absent")
    Traceback (most recent call last):
    exsearch.core.errors.UsageError: work/absent: not an index folder (no index.json); `exsearch index` makes one
    """

    exit_code = 2


_SPELLINGS = (("is", "iz"), ("ys", "yz"), ("our", "or"), ("tre", "ter"), ("-", "_"))
"""British and American; letters that some names are written with, and others."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known word closest to `word`, or an empty string.

    The same word in another spelling, American or British, is the closest there can be.

    >>> nearest("normalize", ["normaliser", "normalise"])
    "; did you mean 'normalise'?"
    """
    import difflib

    plain = {_plain(name): name for name in known}
    matches = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=0.5)
    return f"; did you mean {plain[matches[0]]!r}?" if matches else ""


def _plain(word: str) -> str:
    """Return a word in one of its spellings, to be compared with others."""
    word = word.lower()
    for one, other in _SPELLINGS:
        word = word.replace(one, other)
    return word
