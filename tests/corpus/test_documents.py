"""A folder of documents as a corpus: what has changed is read again, what is gone is deleted, the rest stays."""

import os
from pathlib import Path

import pytest

from exsearch.core.checksums import read_checked
from exsearch.core.errors import UsageError
from exsearch.corpus import documents, importing
from exsearch.corpus.documents import import_documents, is_documents
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.verify import checks_of, faults_in
from exsearch.world import World


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "below").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "guide.md").write_text("# Guide\n\nThe lamp burns colza oil.\n\n## Repair\n\nTurn the crank twice.\n")
    (folder / "below" / "notes#1.txt").write_text("The crank is in the cellar.\n")
    (folder / "broken.pdf").write_bytes(b"nothing")
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    (folder / ".git" / "config").write_text("hidden")
    (tmp_path / "elsewhere.txt").write_text("outside")
    (folder / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    (folder / "same.md").symlink_to(folder / "guide.md")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.txt")).write_text("its name is no text")
    os.mkfifo(folder / "pipe.txt")
    return folder


def texts(corpus: Path) -> dict[str, tuple[str, str]]:
    return {passage.id: (passage.title, passage.text) for passage in Corpus.open(corpus)}


GUIDE = {
    "guide.md#guide": ("Guide", "The lamp burns colza oil."),
    "guide.md#repair": ("Guide: Repair", "Turn the crank twice."),
}
NOTES = {"below/notes%231.txt#L1": ("below/notes#1.txt", "The crank is in the cellar.")}


def test_passages_say_where_they_are_and_what_cannot_be_read_is_told(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = import_documents(folder, tmp_path / "corpus", say=said.append)
    assert texts(tmp_path / "corpus") == NOTES | GUIDE
    assert said == [
        "not read, since they are of no known kind: 1 with a name that is not UTF-8, 1 .png",
        "not read: 1 links that lead out of the folder, such as link.txt",
    ]
    assert (result.passages, result.malformed) == (3, 1)
    assert result.first[0].startswith("file 2: broken.pdf: is damaged, or no PDF file")
    assert not list(faults_in(checks_of(tmp_path / "corpus"), lambda count: None))


def test_the_same_call_again_follows_the_folder_and_the_index_follows_the_corpus(folder: Path, tmp_path: Path) -> None:
    corpus, index = tmp_path / "corpus", tmp_path / "index"
    import_documents(folder, corpus)
    build_index(Corpus.open(corpus), "bm25", index)
    assert [hit.passage.id for hit in open_index(index).search(["crank"], 5)[0]] == [*NOTES, "guide.md#repair"]

    before = Corpus.open(corpus).fingerprint
    said: list[str] = []
    import_documents(folder, corpus, say=said.append)
    assert said[-1] == "of 3 documents, 0 are new, 0 have changed; 0 are gone"
    assert Corpus.open(corpus).fingerprint == before

    (folder / "guide.md").write_text("# Guide\n\nThe lamp is electric.\n\n## Repair\n\nTurn the crank twice.\n")
    (folder / "below" / "notes#1.txt").unlink()
    (folder / "new.html").write_text("<title>New</title><h1 id='a'>News</h1><p>A second crank.</p>")
    said.clear()
    import_documents(folder, corpus, say=said.append)
    assert said[-1] == "of 3 documents, 1 are new, 1 have changed; 1 are gone"
    changed = GUIDE | {"guide.md#guide": ("Guide", "The lamp is electric.")}
    assert texts(corpus) == changed | {"new.html#a": ("New: News", "A second crank.")}
    build_index(Corpus.open(corpus), "bm25", index)
    found = {hit.passage.id for hit in open_index(index).search(["crank"], 5)[0]}
    assert found == {"guide.md#repair", "new.html#a"}


@pytest.mark.parametrize("when", ["delete_passages", "extend_by", "write_checked"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupted_update_is_made_by_the_same_call(
    folder: Path, tmp_path: Path, when: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_documents(folder, tmp_path / "corpus")
    (folder / "guide.md").write_text("# Guide\n\nAll is new.\n")
    real = getattr(documents, when)

    def stop(*arguments: object, **named: object) -> None:
        if after:
            real(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(documents, when, stop)
        with pytest.raises(KeyboardInterrupt):
            import_documents(folder, tmp_path / "corpus")
    import_documents(folder, tmp_path / "corpus")
    assert texts(tmp_path / "corpus") == NOTES | {"guide.md#guide": ("Guide", "All is new.")}
    files = read_checked(tmp_path / "corpus" / documents.RECORD, documents._Record).files
    assert list(files) == ["below/notes#1.txt", "broken.pdf", "guide.md"]


def test_an_import_resumes_within_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("\n\n".join(f"Sentence {row} of {name} is here." for row in range(40)))
    import_documents(folder, tmp_path / "whole", words=10)

    read = documents.read_document

    def stop(path: Path, name: str) -> object:
        if name == "b.txt":
            raise KeyboardInterrupt
        return read(path, name)

    monkeypatch.setattr(importing, "SEGMENT_ROWS", 7)
    source = documents.DocumentSource(folder, documents.documents_in(folder).documents, 10)
    with monkeypatch.context() as patch:
        patch.setattr(documents, "read_document", stop)
        with pytest.raises(KeyboardInterrupt):
            importing.import_source(source, tmp_path / "broken", segment_rows=7)
    said: list[str] = []
    again = documents.DocumentSource(folder, documents.documents_in(folder).documents, 10)
    importing.import_source(again, tmp_path / "broken", say=said.append, segment_rows=7)
    assert said == ["resuming after 35 passages"]
    assert texts(tmp_path / "broken") == texts(tmp_path / "whole")


def test_other_passages_are_cut_from_all_documents_again(folder: Path, tmp_path: Path) -> None:
    (folder / "guide.md").write_text("# Guide\n\n" + "A sentence of five words. " * 40)
    import_documents(folder, tmp_path / "corpus", words=100)
    few = len(texts(tmp_path / "corpus"))
    import_documents(folder, tmp_path / "corpus", words=20)
    assert len(texts(tmp_path / "corpus")) > few


def test_a_folder_without_a_readable_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: has no documents$"):
        import_documents(tmp_path / "empty", tmp_path / "corpus")
    (tmp_path / "empty" / "a.pdf").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"a\.pdf: is damaged.*; 1 of 1 rows are malformed: no document can be read"):
        import_documents(tmp_path / "empty", tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_corpus_of_something_else_is_replaced_only_by_an_import(folder: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", World(seed=1, passages=200).passages())
    import_documents(folder, tmp_path / "corpus")
    assert texts(tmp_path / "corpus") == NOTES | GUIDE


def test_a_single_document_is_recognised_and_files_of_passages_are_not_documents(folder: Path, tmp_path: Path) -> None:
    assert is_documents(str(folder)) and is_documents(str(folder / "guide.md"))
    (tmp_path / "passages.txt").write_text('{"id": "a", "text": "b"}\n')
    assert not is_documents(str(tmp_path / "passages.txt"))
    assert not is_documents(os.devnull)
    import_documents(folder / "guide.md", tmp_path / "corpus")
    assert texts(tmp_path / "corpus") == GUIDE
