"""Reads PDF: page by page, under the headings of its outline."""

import re
from collections import Counter
from typing import Any

from exsearch.core.errors import UsageError
from exsearch.documents.document import Block, Document, Headings
from exsearch.documents.library import library

_BROKEN = re.compile(r"(\w+)\ufffe(\w+)")
"""A word that PDFium found broken at the end of a line."""
_DIGITS = re.compile(r"\d+")
_PARAGRAPH = re.compile(r"\n\s*\n")


def read_pdf(content: bytes, name: str) -> Document:
    """Return the text of a file. Raises UsageError if it is encrypted, broken, or only has pictures of text."""
    pdfium: Any = library("pypdfium2")
    try:
        file = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        reason = "is encrypted" if "password" in str(error).lower() else "is damaged, or no PDF file"
        raise UsageError(f"{name}: {reason}") from None
    try:
        pages = [_text_of(page) for page in file]
        outline = [(entry.level, entry.get_title(), _page_of(entry)) for entry in file.get_toc()]
        title = (file.get_metadata_value("Title") or "").strip()
    except pdfium.PdfiumError:
        raise UsageError(f"{name}: is damaged") from None
    finally:
        file.close()
    if not any(map(str.strip, pages)):
        raise UsageError(f"{name}: has no text on {len(pages)} pages, only pictures; run OCR on it first")
    return Document(title, _blocks(_without_running_lines(_joined(pages)), outline))


def _text_of(page: Any) -> str:
    text: str = page.get_textpage().get_text_range()
    page.close()
    return text.replace("\r\n", "\n")


def _page_of(entry: Any) -> int | None:
    destination = entry.get_dest()
    page: int | None = None if destination is None else destination.get_index()
    return page


def _joined(pages: list[str]) -> list[str]:
    """Join words that are broken at the end of a line: without the hyphen if they occur like that elsewhere."""
    words = {word.lower() for page in pages for word in re.findall(r"\w+", page)}

    def join(match: re.Match[str]) -> str:
        whole = match[1] + match[2]
        compound = match[1].lower() in words and match[2].lower() in words
        return f"{match[1]}-{match[2]}" if compound and whole.lower() not in words else whole

    return [_BROKEN.sub(join, page).replace("\ufffe", "-") for page in pages]


def _without_running_lines(pages: list[str]) -> list[str]:
    """Remove the first and the last line of each page where it recurs on most pages, whatever the numbers in it."""
    lines = [page.strip().split("\n") for page in pages]
    for end in (0, -1):
        found = Counter(_DIGITS.sub("#", each[end].strip()) for each in lines if each)
        for each in lines:
            if each and len(pages) > 3 and found[_DIGITS.sub("#", each[end].strip())] > len(pages) / 2:
                del each[end]
    return ["\n".join(each) for each in lines]


def _blocks(pages: list[str], outline: list[tuple[int, str, int | None]]) -> list[Block]:
    headings, blocks = Headings(), []
    for number, page in enumerate(pages):
        for level, title, target in outline:
            if target == number and title.strip():
                headings.enter(level, " ".join(title.split()))
        for paragraph in _PARAGRAPH.split(page):
            if text := " ".join(paragraph.split()):
                blocks.append(Block(text, headings.path, f"page={number + 1}"))
    return blocks
