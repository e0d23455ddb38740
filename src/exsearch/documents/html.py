"""Reads HTML: everything but navigation, with the anchor of each heading."""

import re
from collections.abc import Iterator
from typing import Any

from exsearch.core.errors import UsageError
from exsearch.documents.document import Block, Document, Headings
from exsearch.documents.library import library

_HEADING = re.compile(r"h([1-6])")
_SKIPPED = {"nav", "header", "footer", "script", "style", "noscript", "template", "head", "svg", "form", "button"}
_CHROME = re.compile(r"\b(sphinxsidebar|headerlink|navheader|navfooter|navigation|toc|breadcrumbs?)\b", re.IGNORECASE)
"""Classes and roles of what is not the page's text."""
_BLOCKS = (
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "details",
        "div",
        "fieldset",
        "main",
        "p",
        "section",
    }
    | {"caption", "figcaption", "figure", "summary", "table", "tbody", "td", "tfoot", "th", "thead"}
    | {"section", "dd", "dl", "dt", "li", "ol", "ul"}
)
_LAID_OUT = ("table", "h1", "h2", "h3", "h4", "h5", "h6", "p", "div", "ul", "ol", "dl", "pre", "blockquote")
"""What a row of a table has if it lays out a page instead of figures."""
_MARKS = re.compile("[¶§]$")
"""What documentation generators put behind a heading, as a link to it."""


def read_html(content: bytes, name: str) -> Document:
    """Return the text of a page or of a part of one. Raises UsageError if there is nothing to parse."""
    lxml_html: Any = library("lxml.html")
    try:
        content.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = None  # what the page declares
    parser = lxml_html.HTMLParser(encoding=encoding, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = lxml_html.document_fromstring(content, parser=parser)
    except (ValueError, SyntaxError) as error:  # lxml's ParserError is a SyntaxError
        raise UsageError(f"{name}: cannot be read as HTML ({error})") from None
    blocks = list(_Walk().blocks(root))
    title = " ".join((root.findtext(".//title") or "").split())
    headings = (heading for block in blocks for heading in block.headings)
    return Document(title or next(headings, ""), blocks)


class _Walk:
    """Collects the text of inline elements until a block element begins or ends."""

    def __init__(self) -> None:
        self._headings = Headings()
        self._place = ""
        self._text: list[str] = []
        self._used: dict[str, int] = {}

    def blocks(self, element: Any, anchor: str = "") -> Iterator[Block]:
        """Yield the blocks of an element; `anchor` is that of the section around it, if that has just begun."""
        if not isinstance(element.tag, str) or _is_skipped(element):
            return
        if heading := _HEADING.fullmatch(element.tag):
            yield from self._flush()
            text = _MARKS.sub("", _line(element)).strip()
            if text:
                self._headings.enter(int(heading[1]), text)
                self._place = self._unused(_anchor_in(element) or anchor or _slug(text))
        elif element.tag == "pre":
            yield from self._flush()
            yield from self._block(element.text_content().strip("\n"), is_lines=True)
        elif element.tag == "tr" and not any(True for _ in element.iter(*_LAID_OUT)):
            yield from self._flush()
            yield from self._block(" | ".join(filter(None, map(_line, element))), is_lines=True)
        else:
            yield from self._inside(element)

    def _inside(self, element: Any) -> Iterator[Block]:
        is_block = element.tag in _BLOCKS
        if is_block:
            yield from self._flush()
        self._text.append(" " if element.tag == "br" else element.text or "")
        anchor = element.get("id", "") if element.tag in ("section", "div", "article") else ""
        for child in element:
            yield from self.blocks(child, anchor)
            self._text.append(child.tail or "")
        if is_block:
            yield from self._flush()

    def _flush(self) -> Iterator[Block]:
        text, self._text = " ".join("".join(self._text).split()), []
        yield from self._block(text)

    def _block(self, text: str, is_lines: bool = False) -> Iterator[Block]:
        if text.strip():
            yield Block(text, self._headings.path, self._place, is_lines)

    def _unused(self, anchor: str) -> str:
        """Return an anchor with a number if it was used before, as GitHub's are."""
        count = self._used[anchor] = self._used.get(anchor, -1) + 1
        return f"{anchor}-{count}" if count else anchor


def _is_skipped(element: Any) -> bool:
    if element.tag in _SKIPPED:
        return True
    if element.tag in ("html", "body", "main", "article"):
        return False
    return bool(_CHROME.search(f"{element.get('class', '')} {element.get('role', '')}"))


def _anchor_in(heading: Any) -> str:
    """Return the anchor of a heading, or of an element in it."""
    own = [heading.get("id"), *(each.get("id") or each.get("name") for each in heading.iter("a", "span"))]
    return next(filter(None, own), "")


def _slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _line(element: Any) -> str:
    return " ".join(element.text_content().split()) if isinstance(element.tag, str) else ""
