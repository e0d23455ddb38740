"""Reads documents that are zip archives: DOCX, ODT and EPUB."""

import io
import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

from exsearch.core.errors import UsageError
from exsearch.documents.document import Block, Document, Headings
from exsearch.documents.html import read_html
from exsearch.documents.library import library

_LIMIT = 1 << 28
"""Maximum size of what an archive unpacks to."""
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_ODF = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


def read_docx(content: bytes, name: str) -> Document:
    """Return the text of a Word file: tables, footnotes and insertions, too."""
    mammoth: Any = library("mammoth")
    _open(content, name).close()
    try:
        page = mammoth.convert_to_html(io.BytesIO(content), convert_image=mammoth.images.img_element(lambda image: {}))
    except Exception as error:  # of any kind: it has none of its own for files that it cannot read
        raise UsageError(f"{name}: cannot be read as DOCX ({error or type(error).__name__})") from None
    if not page.value:
        raise UsageError(f"{name}: has no text")
    return read_html(page.value.encode(), name)


def read_odt(content: bytes, name: str) -> Document:
    """Return the text of an OpenDocument file."""
    with _open(content, name) as archive:
        root = _xml(archive, "content.xml", name)
    headings, blocks = Headings(), []
    for element in root.iter(f"{_ODF}h", f"{_ODF}p"):
        text = " ".join("".join(_texts(element)).split())
        if not text:
            continue
        if element.tag == f"{_ODF}h":
            headings.enter(int(element.get(f"{_ODF}outline-level", "1")), text)
        else:
            blocks.append(Block(text, headings.path))
    return Document("", blocks)


def read_epub(content: bytes, name: str) -> Document:
    """Return the text of a book in reading order; places begin with the chapter's file."""
    with _open(content, name) as archive:
        container = _xml(archive, "META-INF/container.xml", name)
        package = next((each.get("full-path") for each in container.iter("{*}rootfile")), None)
        if package is None:
            raise UsageError(f"{name}: names no package, so it cannot be read as EPUB")
        book = _xml(archive, package, name)
        files = {item.get("id"): unquote(item.get("href", "")) for item in book.iter(f"{_OPF}item")}
        blocks: list[Block] = []
        for reference in book.iter(f"{_OPF}itemref"):
            chapter = files.get(reference.get("idref"))
            if chapter is None:
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(package), chapter))
            for block in read_html(_member(archive, path, name), f"{name}, {path}").blocks:
                place = f"{chapter}#{block.place}" if block.place else chapter
                blocks.append(Block(block.text, block.headings, place, block.is_lines))
    title = next((each.text or "" for each in book.iter(f"{_DC}title")), "")
    return Document(" ".join(title.split()), blocks)


def _open(content: bytes, name: str) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError) as error:
        raise UsageError(f"{name}: is damaged, or of another format ({error})") from None
    if sum(member.file_size for member in archive.infolist()) > _LIMIT:
        archive.close()
        raise UsageError(f"{name}: unpacks to more than {_LIMIT >> 20} MB")
    return archive


def _member(archive: zipfile.ZipFile, path: str, name: str) -> bytes:
    try:
        with archive.open(path) as file:
            content = file.read(_LIMIT + 1)  # what the archive says of sizes may be wrong
    except (KeyError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise UsageError(f"{name}: {path} cannot be read ({error})") from None
    if len(content) > _LIMIT:
        raise UsageError(f"{name}: {path} unpacks to more than {_LIMIT >> 20} MB")
    return content


def _xml(archive: zipfile.ZipFile, path: str, name: str) -> Any:
    etree: Any = library("lxml.etree")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(_member(archive, path, name), parser)
    except etree.XMLSyntaxError as error:
        raise UsageError(f"{name}: {path} is no valid XML ({error})") from None


def _texts(element: Any) -> list[str]:
    """Return the text of a paragraph; OpenDocument writes tabs and repeated spaces as elements."""
    parts = [element.text or ""]
    for child in element:
        if child.tag in (f"{_ODF}s", f"{_ODF}tab", f"{_ODF}line-break"):
            parts.append(" ")
        elif child.tag not in (f"{_ODF}tracked-changes", f"{_ODF}h", f"{_ODF}p"):
            parts += _texts(child)
        parts.append(child.tail or "")
    return parts
