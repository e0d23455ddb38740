"""The documents of a folder: which files they are, and what tells whether one has changed."""

import os
from collections import Counter
from pathlib import Path

import msgspec

from exsearch.documents.reading import reader_of


class Listing(msgspec.Struct):
    """The files of a folder."""

    documents: dict[str, str]
    """What changes with the content, by path relative to the folder; sorted."""
    unknown: Counter[str]
    """Number of other files, by the ends of their names."""
    outside: list[str]
    """Links that lead out of the folder, which are not followed."""


def documents_in(root: Path) -> Listing:
    """List the documents in a folder and in those below, or the one that `root` is; hidden ones are not looked at."""
    if root.is_file():
        return Listing({root.name: _identity(root)}, Counter(), [])
    found, unknown, outside = dict[str, str](), Counter[str](), list[str]()
    base = root.resolve()
    for at, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at, name)
            relative = path.relative_to(root).as_posix()
            if name.startswith(".") or not path.is_file():
                continue
            if path.is_symlink():
                if not path.resolve().is_relative_to(base):
                    outside.append(relative)
                continue  # what a link within the folder leads to is listed itself
            if not _is_utf8(relative):
                unknown["with a name that is not UTF-8"] += 1
            elif reader_of(path) is None:
                unknown[path.suffix.lower() or name] += 1
            else:
                found[relative] = _identity(path)
    return Listing(dict(sorted(found.items())), unknown, outside)


def _is_utf8(name: str) -> bool:
    """Return whether a name can be an id; Python keeps other bytes of it as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"
