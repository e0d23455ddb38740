"""The two kinds of failure a user meets. Both print as one line, without a traceback."""


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


def nearest(word: str, known: list[str]) -> str:
    """Return `; did you mean 'x'?` for the known word closest to `word`, or an empty string."""
    import difflib

    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
