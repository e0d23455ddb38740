"""Imports a folder of documents as a corpus, and keeps the corpus like the folder.

A passage's id is the path of its file and its place there, such as `manual.pdf#page=12`, so that it can be opened; the
second passage of a place ends in `:2`, and those of a file without places are numbered. Its title is the document's,
with the heading that it stands under.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from exsearch.core.checksums import read_checked, write_checked
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.messages import logger
from exsearch.corpus.importing import ImportedPassages, Say, extend_by, import_source
from exsearch.corpus.layout import INFO
from exsearch.corpus.passage import Passage
from exsearch.corpus.source import Counts, Malformed, Place, Unit
from exsearch.corpus.store import Corpus, delete_passages
from exsearch.corpus.tables import is_saved_dataset
from exsearch.documents.cutting import cut
from exsearch.documents.document import Document
from exsearch.documents.folder import Listing, documents_in
from exsearch.documents.reading import read_document

RECORD = "documents.json"
WORDS = 100
"""Default maximum number of words of a passage."""


_ALONE = (".pdf", ".docx", ".odt", ".epub", ".html", ".htm", ".md", ".rst", ".eml")
"""Ends of names of files that are documents when they are imported alone; any text file may have passages instead."""


class _Record(msgspec.Struct, frozen=True):
    """What the passages of a corpus were cut from."""

    root: str
    words: int
    files: dict[str, str]
    """What changes with each file's content, by its path."""


class DocumentSource:
    """The passages of some files of a folder. Rows are counted by files."""

    counts: Counts = "file"
    unit: Unit = "files"

    def __init__(self, root: Path, files: dict[str, str], words: int) -> None:
        """Read `files`, by path below `root`, with what changes with their content."""
        self._base = root if root.is_dir() else root.parent
        self._files, self._words = list(files), words
        self.name = str(root)
        self.identity = fingerprint([str(root.resolve()), words, files])
        self.start = Place()
        self.size = max(1, len(files))
        self._place = self.start

    @property
    def line(self) -> int:
        """Number, from 1, of the file that the last row is of."""
        return max(1, self._place.line if self._place.offset == 0 else self._place.line + 1)

    @property
    def place(self) -> Place:
        """Position where the next row starts: files before it, and passages of its file before it."""
        return self._place

    @property
    def done(self) -> int:
        """Number of files that have been read."""
        return self._place.line

    def rows(self, start: Place) -> Iterator[Passage | Malformed]:
        """Yield the passages from `start` on; a file that cannot be read is one malformed row."""
        for number, path in enumerate(self._files[start.line :], start.line):
            try:
                document = read_document(self._base / path, path)
                passages = list(_passages(path, document, self._words))
            except UsageError as error:
                self._place = Place(number + 1)
                yield Malformed(str(error), path)
                continue
            skipped = start.offset if number == start.line else 0
            for offset in range(skipped, len(passages)):
                self._place = Place(number, offset + 1) if offset + 1 < len(passages) else Place(number + 1)
                yield passages[offset]
            self._place = Place(number + 1)


def is_documents(name: str) -> bool:
    """Return whether this is a folder of documents, or a document, and not passages in a format of their own."""
    path = Path(name)
    if path.is_dir():
        return not is_saved_dataset(path)
    return path.is_file() and path.suffix.lower() in _ALONE


def read_documents(folder: str | Path, words: int = WORDS) -> Iterator[Passage]:
    """Yield the passages of a folder of documents, or of one document, each of at most `words` words.

    HTML, Markdown, text, PDF, DOCX, ODT, EPUB, manual pages, source code and e-mail are read. A passage's id is the
    path of its file and its place there. Files that cannot be read are told and skipped. Raises UsageError if there
    are no documents.

    >>> index = xs.build_index(xs.read_documents("docs"), "bm25", "work/docs-index")
    """
    root = Path(folder)
    listing = documents_in(root)
    if not listing.documents:
        raise UsageError(f"{root}: has no documents")
    for row in DocumentSource(root, listing.documents, words).rows(Place()):
        if isinstance(row, Passage):
            yield row
        else:
            logger.warning(f"skipped: {row.reason}")


def import_documents(
    root: Path, out: Path, words: int = WORDS, strict: bool = False, say: Say = lambda line: None
) -> ImportedPassages:
    """Write the passages of a folder of documents, or of one, as the corpus `out`.

    If `out` was written so from the same folder before, only files that have changed since are read, and passages of
    files that are gone are deleted. Otherwise works like `import_corpus`.
    """
    listing = documents_in(root)
    _tell(listing, say)
    if not listing.documents:
        raise UsageError(f"{root}: has no documents")
    record = _Record(str(root.resolve()), words, listing.documents)
    before = _record_of(out)
    if before is None or (before.root, before.words) != (record.root, record.words):
        source = DocumentSource(root, listing.documents, words)
        return import_source(source, out, strict, say, also=lambda folder: write_checked(folder / RECORD, record))
    return _update(root, out, before, record, strict, say)


def _update(
    root: Path, out: Path, before: _Record, now: _Record, strict: bool, say: Callable[[str], None]
) -> ImportedPassages:
    """Read what has changed; delete first, since ids may be used again. Interrupted, the same call does it all."""
    changed = {path: identity for path, identity in now.files.items() if before.files.get(path) != identity}
    gone = before.files.keys() - now.files.keys()
    known = len(changed.keys() & before.files.keys())
    say(f"of {len(now.files)} documents, {len(changed) - known} are new, {known} have changed; {len(gone)} are gone")
    if ids := _passages_of(Corpus.open(out), {_escaped(path) for path in gone | changed.keys()}):
        delete_passages(out, ids)
    result = ImportedPassages(0, 0, 0, None, [])
    if changed:
        result = extend_by(DocumentSource(root, changed, now.words), out, strict, say)
    write_checked(out / RECORD, now)
    return result


def _record_of(out: Path) -> _Record | None:
    return read_checked(out / RECORD, _Record) if (out / RECORD).exists() and (out / INFO).exists() else None


def _passages_of(corpus: Corpus, paths: set[str]) -> list[str]:
    """Return the ids of the passages of some files."""
    return [passage.id for passage in corpus if passage.id.partition("#")[0] in paths]


def _passages(path: str, document: Document, words: int) -> Iterator[Passage]:
    used: dict[str, int] = {}
    for piece in cut(document, words):
        headings = piece.headings[1:] if piece.headings[:1] == (document.title,) else piece.headings
        number = used[piece.place] = used.get(piece.place, 0) + 1
        place = (piece.place + (f":{number}" if number > 1 else "")) if piece.place else str(number)
        yield Passage(f"{_escaped(path)}#{place}", ": ".join([document.title, *headings[-1:]]), piece.text)


def _escaped(path: str) -> str:
    """Return a path as ids have it, in which `#` begins the place."""
    return path.replace("#", "%23")


def _tell(listing: Listing, say: Say) -> None:
    if listing.unknown:
        kinds = ", ".join(f"{count} {kind}" for kind, count in listing.unknown.most_common(8))
        say(f"not read, since they are of no known kind: {kinds}")
    if listing.outside:
        say(f"not read: {len(listing.outside)} links that lead out of the folder, such as {listing.outside[0]}")
