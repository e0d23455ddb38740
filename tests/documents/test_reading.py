"""Every format is read as the same blocks under the same headings, each with a place that a link can name."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_documents import CODE, FIRST, HTML, MAN, MARKDOWN, RST, SECOND, docx, eml, epub, odt, pdf, zipped

from exsearch.core.errors import UsageError
from exsearch.documents import reading
from exsearch.documents.document import Block, Document
from exsearch.documents.reading import read_document, reader_of


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str, bytes | str], Document]:
    def read(name: str, content: bytes | str) -> Document:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_document(path, name)

    return read


Read = Callable[[str, bytes | str], Document]


def test_html_without_navigation_and_with_anchors(read: Read) -> None:
    document = read("marlow.html", HTML)
    assert document.title == "Marlow"
    lamp = ("Marlow", "The lamp")
    assert document.blocks == [
        Block(FIRST, ("Marlow",), "top"),
        Block(SECOND, lamp, "lamp"),
        Block("year | oil", lamp, "lamp", is_lines=True),
        Block("1871 | 12", lamp, "lamp", is_lines=True),
        Block("light()\n  dark()", lamp, "lamp", is_lines=True),
    ]


def test_html_that_is_laid_out_by_a_table(read: Read) -> None:
    page = "<table><tr><td><h1>One</h1><p>a</p></td><td><div>b</div><div>c</div></td></tr></table>"
    assert [block.text for block in read("old.htm", page).blocks] == ["a", "b", "c"]


def test_html_in_another_encoding(read: Read) -> None:
    page = '<meta charset="iso-8859-2"><p>Łódź</p>'
    assert read("lodz.html", page.encode("iso-8859-2")).blocks[0].text == "Łódź"


def test_markdown_with_the_anchors_of_github(read: Read) -> None:
    document = read("marlow.md", MARKDOWN + "\n## The lamp\n\nagain\n")
    assert document.title == "Marlow"
    assert [(block.text, block.place) for block in document.blocks] == [
        (FIRST, "marlow"),
        (SECOND, "the-lamp"),
        ("year | oil", "the-lamp"),
        ("1871 | 12", "the-lamp"),
        ("light()\n  dark()", "the-lamp"),
        ("again", "the-lamp-1"),
    ]


def test_text_with_underlined_headings(read: Read) -> None:
    assert read("marlow.rst", RST).blocks == [
        Block(FIRST, ("Marlow",), "L4"),
        Block(SECOND, ("Marlow", "The lamp"), "L9"),
    ]
    rule = "a. `readarray' is new\n" + "-" * 79 + "\nmore\n"
    assert read("CHANGES", rule).blocks[0].headings == ()


def test_source_code_by_lines(read: Read) -> None:
    document = read("light.py", CODE)
    assert document.title == "light.py"
    assert document.blocks == [
        Block('"""Lights the lamp."""', (), "L1", is_lines=True),
        Block("def light():\n    return 1", (), "L3", is_lines=True),
    ]


def test_word_files(read: Read) -> None:
    assert [(block.text, block.headings) for block in read("marlow.docx", docx()).blocks] == [
        (FIRST, ("Marlow",)),
        (SECOND, ("Marlow", "The lamp")),
        ("1871", ("Marlow", "The lamp")),
        ("12", ("Marlow", "The lamp")),
    ]


def test_opendocument_files(read: Read) -> None:
    assert read("marlow.odt", odt()).blocks == [Block(FIRST, ("Marlow",)), Block(SECOND, ("Marlow", "The lamp"))]


def test_books_in_reading_order(read: Read) -> None:
    document = read("marlow.epub", epub())
    assert document.title == "Marlow, a book"
    assert [(block.text, block.place) for block in document.blocks] == [
        (FIRST, "one.xhtml#c"),
        (SECOND, "two b.xhtml#c"),
    ]


def test_pdf_by_pages_without_running_lines(read: Read) -> None:
    pages = [["Marlow, a report", f"{FIRST}", f"Page {number}"] for number in range(1, 6)]
    pages[2][1] = SECOND
    document = read("marlow.pdf", pdf(pages))
    assert document.title == "marlow.pdf"
    assert [(block.text, block.place) for block in document.blocks] == [
        (SECOND if number == 3 else FIRST, f"page={number}") for number in range(1, 6)
    ]


def test_mail(read: Read) -> None:
    document = read("marlow.eml", eml())
    assert document.title == "Märlow"
    assert [block.text for block in document.blocks] == ["From: ada@example.org\nTo: bo@example.org", FIRST, SECOND]


def test_mail_in_an_encoding_that_does_not_exist(read: Read) -> None:
    content = b"Subject: x\nContent-Type: text/plain; charset=nope-8\n\nhello there\n"
    assert [block.text for block in read("a.eml", content).blocks] == ["hello there"]


@pytest.mark.skipif(not (shutil.which("mandoc") or shutil.which("man")), reason="needs mandoc or man")
def test_manual_pages(read: Read) -> None:
    document = read("marlow.1.gz", gzip.compress(MAN.encode()))
    assert document.title == "marlow.1"
    assert [(block.text, block.headings[-1]) for block in document.blocks][-2:] == [
        (FIRST, "DESCRIPTION"),
        (SECOND, "DESCRIPTION"),
    ]


def test_what_is_no_document_has_no_reader(tmp_path: Path) -> None:
    for name, content in {"a.png": b"\x89PNG\0", "b.bin": b"\0\1", "empty": b"", "c.so.1": b"\x7fELF\0"}.items():
        (tmp_path / name).write_bytes(content)
        assert reader_of(tmp_path / name) is None
    (tmp_path / "README").write_text("Read me.")
    assert reader_of(tmp_path / "README") is not None


DEFLATED = zipped({"word/document.xml": "x"})
BAD: dict[str, tuple[str, bytes, str]] = {
    "no pdf": ("a.pdf", b"not at all", "is damaged, or no PDF file"),
    "a pdf of pictures": ("a.pdf", pdf([[], []]), "has no text on 2 pages, only pictures; run OCR on it first"),
    "half a pdf": ("a.pdf", pdf([[FIRST]])[:300], "damaged|no text"),
    "no docx": ("a.docx", b"not at all", "is damaged, or of another format"),
    "a docx without text": ("a.docx", DEFLATED, "cannot be read as DOCX"),
    "half a docx": ("a.docx", docx()[:-40], "is damaged, or of another format"),
    "an epub of nothing": ("a.epub", zipped({"a": "b"}), "container.xml cannot be read"),
    "an odt that is no xml": ("a.odt", zipped({"content.xml": "<a"}), "is no valid XML"),
    "an empty file": ("a.txt", b" \n", "has no text"),
    "a gzip file cut short": ("a.txt.gz", gzip.compress(b"text " * 999)[:-20], "is damaged"),
    "a binary file": ("a.txt", b"\0\1\2", "is not text"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_named_with_the_reason(read: Read, case: str) -> None:
    name, content, reason = BAD[case]
    with pytest.raises(UsageError, match=rf"^{name}: .*({reason})"):
        read(name, content)


def test_a_file_that_is_too_large_is_named(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 1 << 20)
    for name, content in (("a.txt", b"a " * (1 << 20)), ("a.txt.gz", gzip.compress(b"a " * (1 << 20)))):
        with pytest.raises(UsageError, match=f"^{name}: is larger than 1 MB$"):
            read(name, content)


def test_whatever_a_library_raises_names_the_file(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(content: bytes, name: str) -> Document:
        raise KeyError("missing")

    monkeypatch.setitem(reading._BY_SUFFIX, "docx", stumble)
    with pytest.raises(UsageError, match=r"^a\.docx: cannot be read \(KeyError: 'missing'\)$"):
        read("a.docx", docx())


def test_a_file_that_refers_to_others_reads_none_of_them(read: Read, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    entity = f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
    content = odt_with(entity)
    try:
        texts = [block.text for block in read("a.odt", content).blocks]
    except UsageError:
        return
    assert not any("secret" in text for text in texts)


def odt_with(prefix: str) -> bytes:
    text = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
    return zipped({"content.xml": f'{prefix}<a xmlns:text="{text}"><text:p>before &e; after</text:p></a>'})
