"""API keys, of this project's servers and of others."""

from codecs import BOM_UTF8
from pathlib import Path

from exsearch.core.errors import UsageError


def read_api_key(path: Path) -> str:
    """Return the key in a file, without white space around it. Raises UsageError if there is none."""
    try:
        key = path.read_bytes().removeprefix(BOM_UTF8).decode("ascii").strip()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: an API key is plain ASCII, since it travels in an HTTP header") from None
    if not key or not key.isprintable():
        raise UsageError(f"{path}: must contain one API key on one line")
    return key
