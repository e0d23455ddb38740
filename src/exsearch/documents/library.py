"""Imports the libraries that read documents, which come with an extra."""

import importlib
from types import ModuleType

from exsearch.core.errors import UsageError


def library(name: str) -> ModuleType:
    """Return a module of the extra. Raises UsageError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise UsageError(f"reading documents needs {package}: pip install 'exsearch[documents]'") from None
