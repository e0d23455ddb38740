"""Reads a file as a document, by the end of its name."""

import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from exsearch.core.errors import ExSearchError, UsageError
from exsearch.documents.archives import read_docx, read_epub, read_odt
from exsearch.documents.document import Document
from exsearch.documents.html import read_html
from exsearch.documents.mail import read_mail
from exsearch.documents.man import read_man
from exsearch.documents.pdf import read_pdf
from exsearch.documents.text import read_code, read_markdown, read_prose

MAX_BYTES = 1 << 26
"""Maximum size of a file, unpacked. A PDF file may be four times as large."""

_CODE = (
    "bash c cc cfg conf cpp cs css go h hpp ini java js json kt lua m mk php pl pm proto ps1 py r rb rs scala sh sql "
    "swift toml ts tsx vue xml yaml yml zsh"
)
_BY_SUFFIX: dict[str, Callable[[bytes, str], Document]] = {
    **dict.fromkeys(("html", "htm", "xhtml"), read_html),
    **dict.fromkeys(("md", "markdown"), read_markdown),
    **dict.fromkeys(("txt", "rst", "text", "adoc", "org", "tex"), read_prose),
    **dict.fromkeys(_CODE.split(), read_code),
    "pdf": read_pdf,
    "docx": read_docx,
    "odt": read_odt,
    "epub": read_epub,
    "eml": read_mail,
}
_MAN = re.compile(r"[1-9][a-z]{0,4}")
"""The end of a manual page's name: its section."""


def reader_of(path: Path) -> Callable[[bytes, str], Document] | None:
    """Return what reads files of this name; None for those that are not documents, such as images.

    A file whose name has no known end is prose if it begins with text.
    """
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower().lstrip(".")
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    head = _begin(path)
    if _MAN.fullmatch(suffix) and head[:1] in (b".", b"'"):
        return read_man
    return read_prose if _is_text(head) else None


def read_document(path: Path, name: str) -> Document:
    """Read a document; its title is `name`, its path, if it has none of its own.

    Raises UsageError if it cannot be read, says nothing, or is too large.
    """
    reader = reader_of(path)
    if reader is None:
        raise UsageError(f"{name}: is of an unknown kind")
    limit = 4 * MAX_BYTES if reader is read_pdf else MAX_BYTES
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UsageError(f"{name}: is damaged, or no gzip file") from None
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from None
    if len(content) > limit:
        raise UsageError(f"{name}: is larger than {limit >> 20} MB")
    try:
        document = reader(content, name) if content.strip() else Document("", [])
    except (ExSearchError, MemoryError):
        raise
    except Exception as error:  # of any kind: libraries have no list of what damaged files make them raise
        raise UsageError(f"{name}: cannot be read ({type(error).__name__}: {error})") from None
    if not document.blocks:
        raise UsageError(f"{name}: has no text")
    return document if document.title else Document(name.removesuffix(".gz"), document.blocks)


def _begin(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(4096)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_text(head: bytes) -> bool:
    if not head or b"\0" in head:
        return False
    try:
        head[:-4].decode()  # without a character that the end of the block may cut
    except UnicodeDecodeError:
        return False
    return True
