"""Every link in the documentation leads somewhere: on GitHub and on the built site, whose strict mode sees only a part.

Zensical reports links to missing pages and anchors, but neither missing images, nor links to files that it does not
publish, nor pages that its navigation lacks or names in vain.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OTHERS = sorted(ROOT.glob("*.md"))


class Link(msgspec.Struct, frozen=True):
    """A link or picture to another place of the documentation."""

    line: int
    path: str
    """Relative; empty for the page itself."""
    anchor: str


@cache
def tokens_of(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


@cache
def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and, so configured, the site make them."""
    found: set[str] = set()
    tokens = tokens_of(page)
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            words = "".join(part.content for part in content.children or () if part.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            number = sum(1 for known in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", known))
            found.add(f"{slug}-{number}" if number else slug)
    return found


def links_of(page: Path) -> Iterator[Link]:
    for block in tokens_of(page):
        for token in block.children or ():
            target = str(token.attrGet("href") or token.attrGet("src") or "")
            if target and not re.match(r"[a-z]+:", target):
                path, _, anchor = target.partition("#")
                yield Link((block.map or [0])[0] + 1, path, anchor)


def fault_of(page: Path, link: Link) -> str:
    """What is wrong with a link; nothing if it leads somewhere."""
    target = (page.parent / link.path).resolve() if link.path else page
    if not target.exists():
        return f"there is no {link.path}"
    if page.is_relative_to(DOCS) and not target.is_relative_to(DOCS):
        return f"{link.path} is not on the site: name it without a link"
    if link.anchor and link.anchor not in anchors_of(target):
        return f"{target.name} has no heading #{link.anchor}"
    return ""


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    faults = [f"{page.name}:{link.line}: {fault}" for link in links_of(page) if (fault := fault_of(page, link))]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a](gone.md)", "there is no gone.md"),
        ("![a](gone.svg)", "there is no gone.svg"),
        ("[a](page.md#b)", "page.md has no heading #b"),
        ("[a](#b)", "page.md has no heading #b"),
        ("[a](#a-heading-with-code)", ""),
        ("[a](#twice-1)", ""),
        ("`[a](gone.md)` [b](https://example.org/gone.md)", ""),
    ],
)
def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path, text: str, fault: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A heading, with `code`\n\n## Twice\n\n## Twice\n\n{text}\n", encoding="utf-8")
    assert [fault_of(page, link) for link in links_of(page) if fault_of(page, link)] == [fault] * bool(fault)


def pages_named(entries: list[object]) -> Iterator[str]:
    """The pages that a navigation names, those of its sections included."""
    for entry in entries:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            if isinstance(value, list):
                yield from pages_named(value)
            else:
                yield str(value)


def test_the_navigation_names_every_page_once_and_no_other() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(pages_named(site["nav"])) == sorted(str(page.relative_to(DOCS).as_posix()) for page in PAGES)
    assert "plugins" not in site, "zensical ignores plugins that it does not know: check by hand, and extend this test"


def test_the_site_holds_pages_pictures_and_the_stylesheets_it_names() -> None:
    other = [path for path in DOCS.rglob("*") if path.is_file() and path.suffix not in (".md", ".svg", ".json")]
    styles = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["extra_css"]
    assert {path.relative_to(DOCS).as_posix() for path in other} == {"llms.txt", *styles}


def test_code_and_comments_name_pages_that_exist() -> None:
    folders = ("src", "tests", "benchmarks", "examples", "tools")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    sources += [*OTHERS, *PAGES, ROOT / "Makefile", ROOT / "zensical.toml"]
    named = {
        (path.name, page)
        for path in sources
        for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    assert sorted((source, page) for source, page in named if not (ROOT / page).exists()) == []
