"""Reads text: prose with paragraphs, Markdown, source code."""

import re

from exsearch.core.errors import UsageError
from exsearch.documents.document import Block, Document, Headings
from exsearch.documents.html import read_html
from exsearch.documents.library import library

_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}\s*")
_FRONT_MATTER = re.compile(r"\A---\s*\n.*?\n(---|\.\.\.)\s*(\n|\Z)", re.DOTALL)


def read_prose(content: bytes, name: str) -> Document:
    """Return the paragraphs of a text file; a line underlined with punctuation is a heading."""
    headings, levels, blocks = Headings(), list[str](), list[Block]()
    for start, lines in _paragraphs(_decoded(content, name)):
        while len(lines) > 1 and _is_underlined(*lines[:2]):
            mark = lines[1][0]
            if mark not in levels:
                levels.append(mark)
            headings.enter(levels.index(mark) + 1, lines[0].strip())
            lines, start = lines[2:], start + 2
        if text := " ".join(" ".join(lines).split()):
            blocks.append(Block(text, headings.path, f"L{start}"))
    return Document("", blocks)


def read_code(content: bytes, name: str) -> Document:
    """Return the lines of source code, apart where a line is empty."""
    paragraphs = _paragraphs(_decoded(content, name))
    return Document("", [Block("\n".join(lines), (), f"L{start}", is_lines=True) for start, lines in paragraphs])


def read_markdown(content: bytes, name: str) -> Document:
    """Return the text of a Markdown file, with the anchors that GitHub gives headings."""
    markdown = library("markdown_it").MarkdownIt("commonmark").enable("table")
    page: str = markdown.render(_FRONT_MATTER.sub("", _decoded(content, name)))
    return read_html(page.encode(), name) if page.strip() else Document("", [])


def _is_underlined(line: str, below: str) -> bool:
    """Return whether the second line underlines the first; a much longer one is a rule across the page."""
    excess = len(below.strip()) - len(line.strip())
    return _UNDERLINE.fullmatch(below) is not None and 0 <= excess <= 4


def _decoded(content: bytes, name: str) -> str:
    """Decode UTF-8 or, if it is marked, UTF-16; otherwise Windows' western European encoding. Refuse binary files."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:8192]:
        raise UsageError(f"{name}: is not text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _paragraphs(text: str) -> list[tuple[int, list[str]]]:
    """Return runs of lines that are not empty, each with the number of its first, from 1."""
    found: list[tuple[int, list[str]]] = []
    open_run = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            open_run = False
        elif open_run:
            found[-1][1].append(line.rstrip())
        else:
            found.append((number, [line.rstrip()]))
            open_run = True
    return found
