"""Files without their checksums, as earlier versions wrote them, for tests that change them on purpose."""

import re
from pathlib import Path

from exsearch.core.checksums import CHECKSUMS


def text_of(path: Path) -> str:
    """The content of a JSON file or of JSON lines, without checksums."""
    return re.sub(r',\s*"checksum":\s*"[0-9a-f]+"', "", path.read_text())


def forget(folder: Path) -> None:
    """Remove the checksums of a folder's files, at any depth."""
    for path in folder.rglob(CHECKSUMS):
        path.unlink()


def plain(lines: bytes) -> bytes:
    """JSON lines without their checksums."""
    return re.sub(rb',"checksum":"[0-9a-f]{16}"', b"", lines)
