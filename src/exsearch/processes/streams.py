"""Standard output in whatever encoding the user's terminal or pipe has."""

import codecs
import io
import sys

_HANDLER = "exsearch.escaped"


def write_any_text() -> None:
    """Have standard output write what its encoding lacks as JSON writes it (`\\u03a9`) instead of failing.

    Text stays readable, and what is printed as JSON stays JSON. Streams that know already what to do are left alone.
    """
    codecs.register_error(_HANDLER, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors=_HANDLER)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4)), error.end
