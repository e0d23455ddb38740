"""Standard output in the encoding of the user's terminal or pipe."""

import codecs
import io
import sys

_HANDLER = "exsearch.escaped"


def write_any_text() -> None:
    """Make standard output write characters that its encoding lacks as JSON does (`\\u03a9`), instead of failing.

    Text stays readable, and JSON stays JSON. Streams with another error handler are not changed.
    """
    codecs.register_error(_HANDLER, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors=_HANDLER)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4)), error.end
