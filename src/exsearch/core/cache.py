"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache folder for ExSearch, by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "exsearch"
