"""The corpus on disk: what goes in comes out, under additions and deletions, and damage is noticed."""

import itertools
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.core.locks import sole_writer
from exsearch.corpus import segment, store, writer
from exsearch.corpus.layout import content_fingerprint, digest, row_hash
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus


def numbered(count: int, start: int = 0) -> list[Passage]:
    return [Passage(f"p{number}", f"Title {number}", f"text of {number}") for number in range(start, start + count)]


def set_batch_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(segment, "BATCH_ROWS", rows)
    monkeypatch.setattr(writer, "BATCH_ROWS", rows)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    set_batch_rows(monkeypatch, 4)


@pytest.fixture(scope="module")
def small_batches_throughout() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_batch_rows(monkeypatch, 4)
        yield


some_passages = st.lists(
    st.builds(Passage, st.text(), st.text(), st.text()),
    min_size=1,
    max_size=20,
    unique_by=lambda passage: passage.id,
)


@pytest.mark.usefixtures("small_batches_throughout")
@settings(max_examples=30)
@given(passages=some_passages)
def test_any_unicode_text_comes_back_by_row_by_id_and_in_order(passages: list[Passage]) -> None:
    with TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus", passages)
        assert len(corpus) == len(passages)
        assert list(corpus) == passages
        assert corpus.rows(range(len(passages))) == passages
        assert [corpus.by_id(passage.id) for passage in passages] == passages
        assert [corpus.row_of(passage.id) for passage in passages] == list(range(len(passages)))


@st.composite
def histories(draw: st.DrawFn) -> list[list[Passage] | list[str]]:
    """Additions and deletions, in turns; an id comes back only after its passage was deleted."""
    live: set[str] = set()
    history: list[list[Passage] | list[str]] = []
    for _ in range(draw(st.integers(1, 9))):
        free = [f"p{number}" for number in range(12) if f"p{number}" not in live]
        added = draw(st.lists(st.sampled_from(free), min_size=1, max_size=9, unique=True)) if free else []
        if added:
            history.append([Passage(id, draw(st.text(max_size=3)), f"text {len(history)}") for id in added])
            live.update(added)
        deleted = draw(st.lists(st.sampled_from(sorted(live)), max_size=4, unique=True))
        if deleted:
            history.append(deleted)
            live.difference_update(deleted)
    return history


@pytest.mark.usefixtures("small_batches_throughout")
@settings(max_examples=25)
@given(history=histories(), start=st.integers(0, 30), stop=st.integers(0, 30))
def test_a_corpus_behaves_like_a_list_under_additions_and_deletions(
    history: list[list[Passage] | list[str]], start: int, stop: int
) -> None:
    rows: list[Passage] = []
    deleted: set[int] = set()
    with TemporaryDirectory() as name:
        folder = Path(name) / "corpus"
        for change in history:
            if isinstance(change[0], str):
                deleted.update(live_row(rows, deleted, id) for id in change)  # type: ignore[arg-type]
                delete_passages(folder, change)  # type: ignore[arg-type]
            else:
                (add_passages if rows else write_corpus)(folder, change)  # type: ignore[arg-type]
                rows += change  # type: ignore[arg-type]
            corpus = Corpus.open(folder)
            assert len(corpus) == len(rows)
            assert corpus.rows(range(len(rows))) == rows
            assert corpus.deleted.tolist() == sorted(deleted)
            assert list(corpus) == [passage for row, passage in enumerate(rows) if row not in deleted]
            assert list(itertools.chain(*corpus.batches(start, stop))) == rows[start:stop]
            for id in {passage.id for passage in rows}:
                row = live_row(rows, deleted, id)
                assert corpus.row_of(id) == row
                assert corpus.by_id(id) == (None if row is None else rows[row])
            for count in range(len(rows) + 1):
                assert corpus.prefix(count) == identity(rows[:count])
            assert corpus.prefix(len(rows) + 1) is None


def identity(rows: list[Passage]) -> str:
    """What identifies these rows, from their definition."""
    hashes = (row_hash(row, (p.id.encode(), p.title.encode(), p.text.encode())) for row, p in enumerate(rows))
    return content_fingerprint(len(rows), digest(sum(hashes)))


def live_row(rows: list[Passage], deleted: set[int], id: str) -> int | None:
    return next((row for row, passage in enumerate(rows) if passage.id == id and row not in deleted), None)


@settings(max_examples=25)
@given(passages=some_passages, cut=st.integers(1, 20))
def test_the_fingerprint_does_not_depend_on_how_the_rows_came(passages: list[Passage], cut: int) -> None:
    with TemporaryDirectory() as folder:
        whole = write_corpus(Path(folder) / "whole", passages)
        parts = write_corpus(Path(folder) / "parts", passages[:cut])
        assert parts.prefix(len(parts)) == parts.fingerprint
        assert (parts.fingerprint == whole.fingerprint) == (cut >= len(passages))
        if cut < len(passages):
            grown = add_passages(Path(folder) / "parts", passages[cut:])
            assert grown.fingerprint == whole.fingerprint
            assert grown.prefix(cut) == whole.prefix(cut) == parts.fingerprint


@pytest.mark.usefixtures("small_batches")
def test_the_fingerprint_depends_on_content_order_and_deletions_alone(tmp_path: Path) -> None:
    rows = numbered(9)

    def of(name: str, rows: list[Passage]) -> str:
        return write_corpus(tmp_path / name, rows).fingerprint

    first = of("a", rows)
    assert of("b", rows) == first
    assert of("c", rows[::-1]) != first
    assert of("d", [*rows[:8], Passage("p8", "Title 8text", " of 8")]) != first
    together = delete_passages(tmp_path / "a", ["p1", "p5"])
    delete_passages(tmp_path / "b", ["p5"])
    one_by_one = delete_passages(tmp_path / "b", ["p1"])
    assert together.fingerprint == one_by_one.fingerprint != first
    assert together.prefix(9) == first


@pytest.mark.usefixtures("small_batches")
def test_rows_come_in_the_order_asked_for_across_batches_and_segments(tmp_path: Path) -> None:
    expected = numbered(16)
    write_corpus(tmp_path / "corpus", expected[:11])
    corpus = add_passages(tmp_path / "corpus", expected[11:])
    wanted = [15, 0, 5, 0, 11, 4, 10]
    assert corpus.rows(wanted) == [expected[row] for row in wanted]
    assert corpus.rows([]) == []
    assert [len(batch) for batch in corpus.batches()] == [4, 4, 3, 4, 1]
    assert [len(batch) for batch in corpus.batches(3, 13)] == [1, 4, 3, 2]
    assert corpus[np.int64(7)] == expected[7]


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_outside_the_corpus_is_an_index_error(tmp_path: Path, row: int) -> None:
    with pytest.raises(IndexError, match="corpus of 3 passages"):
        write_corpus(tmp_path / "corpus", numbered(3))[row]


def test_an_unknown_id_is_none(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", numbered(3))
    assert corpus.by_id("p3") is corpus.row_of("p3") is None


def test_ids_that_share_a_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_hash", lambda id: 7)
    expected = numbered(5)
    write_corpus(tmp_path / "corpus", expected[:3])
    corpus = add_passages(tmp_path / "corpus", expected[3:])
    assert [corpus.by_id(passage.id) for passage in expected] == expected
    assert corpus.by_id("p5") is None
    with pytest.raises(UsageError, match="'p1' occurs twice: passages 2 and 6"):
        add_passages(tmp_path / "corpus", [expected[1]])
    assert delete_passages(tmp_path / "corpus", ["p1"]).by_id("p2") == expected[2]


def test_a_duplicate_id_is_refused_and_leaves_the_old_corpus(tmp_path: Path) -> None:
    old = write_corpus(tmp_path / "corpus", numbered(2))
    with pytest.raises(UsageError, match="'p3' occurs twice: passages 4 and 7"):
        write_corpus(tmp_path / "corpus", [*numbered(6), Passage("p3", "", "other")])
    with pytest.raises(UsageError, match="'p1' occurs twice: passages 2 and 4"):
        add_passages(tmp_path / "corpus", [Passage("new", "", ""), Passage("p1", "", "other")])
    assert Corpus.open(tmp_path / "corpus").fingerprint == old.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert [path.name for path in (tmp_path / "corpus/segments").iterdir()] == ["0-2"]


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def source() -> Iterator[Passage]:
        yield from numbered(3)
        raise UsageError("line 4 is bad")

    with pytest.raises(UsageError, match="line 4"):
        write_corpus(tmp_path / "corpus", source())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_addition_left_is_no_part_of_the_corpus(tmp_path: Path) -> None:
    expected = write_corpus(tmp_path / "whole", numbered(5)).fingerprint
    write_corpus(tmp_path / "corpus", numbered(3))
    for name in ("3-7", ".partial"):
        shutil.copytree(tmp_path / "corpus/segments/0-3", tmp_path / "corpus/segments" / name)
    assert len(Corpus.open(tmp_path / "corpus")) == 3
    assert add_passages(tmp_path / "corpus", numbered(2, start=3)).fingerprint == expected
    assert {path.name for path in (tmp_path / "corpus/segments").iterdir()} == {"0-3", "3-5"}


def test_no_passages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no passages"):
        write_corpus(tmp_path / "corpus", [])


def test_a_lone_surrogate_is_refused_with_its_passage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"passage 2, id 'b': not valid Unicode"):
        write_corpus(tmp_path / "corpus", [Passage("a", "", "fine"), Passage("b", "", "\ud800")])


def test_a_folder_with_other_content_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="has other files"):
        write_corpus(tmp_path, numbered(2))
    with pytest.raises(UsageError, match="is a file"):
        write_corpus(tmp_path / "thesis.tex", numbered(2))
    with pytest.raises(UsageError, match="name a new folder"):
        write_corpus(Path(), numbered(2))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_deleting_an_unknown_id_is_refused_and_deletes_nothing_but_one_deleted_before_is_not(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", numbered(4))
    assert delete_passages(tmp_path / "corpus", ["p1", "p1"]).deleted.tolist() == [1]
    for ids in (["p0", "p9"], ["p1", "p9"]):
        with pytest.raises(UsageError, match=f"1 of 2 ids are not in the corpus, such as '{ids[1]}'"):
            delete_passages(tmp_path / "corpus", ids)
    assert Corpus.open(tmp_path / "corpus").deleted.tolist() == [1]


def test_a_deleted_row_can_still_be_read_and_its_id_be_used_again(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", numbered(3))
    delete_passages(tmp_path / "corpus", ["p1"])
    corpus = add_passages(tmp_path / "corpus", [Passage("p1", "", "second edition")])
    assert (corpus[1].text, corpus.row_of("p1")) == ("text of 1", 3)
    with pytest.raises(UsageError, match="'p1' occurs twice: passages 4 and 5"):
        add_passages(tmp_path / "corpus", [Passage("p1", "", "third edition")])


def test_an_open_corpus_stays_what_it_was(tmp_path: Path) -> None:
    expected = numbered(3)
    before = write_corpus(tmp_path / "corpus", expected)
    add_passages(tmp_path / "corpus", numbered(2, start=3))
    delete_passages(tmp_path / "corpus", ["p0"])
    write_corpus(tmp_path / "corpus", numbered(9, start=50))
    assert (len(before), list(before), before.row_of("p0"), before.row_of("p3")) == (3, expected, 0, None)
    assert not before.deleted.flags.writeable


@pytest.mark.usefixtures("small_batches")
def test_many_small_additions_are_merged_into_what_one_would_have_written(tmp_path: Path) -> None:
    expected = numbered(64)
    write_corpus(tmp_path / "grown", expected[:1])
    for row in range(1, 64):
        corpus = add_passages(tmp_path / "grown", expected[row : row + 1])
        assert len(corpus.segments) <= 9
    whole = write_corpus(tmp_path / "whole", expected)
    assert corpus.segments == whole.segments
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "grown", tmp_path / "whole")
    ]
    assert contents[0] == contents[1]


def test_a_merge_keeps_to_the_size_of_a_segment_and_what_is_deleted(tmp_path: Path) -> None:
    expected = numbered(60)
    corpus = write_corpus(tmp_path / "corpus", expected[:1])
    for row in range(1, 60):
        adding = writer.CorpusWriter(corpus.folder, corpus.segments, corpus.deleted, segment_rows=10)
        adding.append(expected[row : row + 1])
        adding.commit()
        corpus = delete_passages(corpus.folder, [f"p{row - 2}"]) if row % 7 == 0 else Corpus.open(corpus.folder)
    assert max(part.rows for part in corpus.segments) <= 10
    assert len(corpus.segments) <= 12
    assert corpus.deleted.tolist() == list(range(5, 56, 7))
    assert corpus.rows(range(60)) == expected


def test_no_file_of_an_open_corpus_stays_open(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", numbered(3))
    for row in range(3, 9):
        add_passages(tmp_path / "corpus", numbered(1, start=row))
    before = len(list(Path("/proc/self/fd").iterdir()))
    corpora = [Corpus.open(tmp_path / "corpus") for _ in range(5)]
    assert len(corpora[0].segments) > 2
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_corpus_opened_while_its_segments_are_merged_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = numbered(4)
    write_corpus(tmp_path / "corpus", expected[:1])
    for row in range(1, 3):
        old = add_passages(tmp_path / "corpus", expected[row : row + 1])
    infos = [store._read_info(tmp_path / "corpus")]
    add_passages(tmp_path / "corpus", expected[3:])
    assert not (tmp_path / "corpus/segments/0-1").exists()
    read = store._read_info
    monkeypatch.setattr(store, "_read_info", lambda folder: infos.pop() if infos else read(folder))
    assert list(Corpus.open(tmp_path / "corpus")) == expected
    assert list(old) == expected[:3], "an earlier reader still reads what was merged"


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", numbered(3))
    with FileLock(tmp_path / ".corpus.lock"), pytest.raises(UsageError, match="another process is writing"):
        add_passages(tmp_path / "corpus", numbered(1, start=3))
    with (
        sole_writer(tmp_path / "corpus"),
        pytest.raises(UsageError, match=f"process {os.getpid()} on .* is writing it; wait"),
    ):
        add_passages(tmp_path / "corpus", numbered(1, start=3))
    assert len(add_passages(tmp_path / "corpus", numbered(1, start=3))) == 4
    assert not (tmp_path / ".corpus.lock").exists()


def test_many_threads_may_read_one_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_batch_rows(monkeypatch, 16)
    expected = numbered(400)
    corpus = write_corpus(tmp_path / "corpus", expected)
    rows = list(range(400)) * 5
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(corpus.__getitem__, rows)) == [expected[row] for row in rows]


LIBRARIES = ("Expected to read", "magic string", "cannot reshape", "No data left", "Tried reading", "EOF")
"""How those that read the files speak of damage."""
FILES = ["segments/0-100/passages.arrow", "segments/0-100/ids.hash.npy", "segments/0-100/ids.row.npy", "deleted.npy"]
DAMAGES = list(itertools.product(FILES, [0.0, 0.5])) + [(name, None) for name in FILES[:-1]]
"""A file's name, and how much is left of it; without deleted.npy, nothing is deleted."""


# without deleted.npy, nothing is deleted
@pytest.mark.parametrize(
    ("name", "share"), [*itertools.product(FILES, [0.0, 0.5]), *itertools.product(FILES[:-1], [None])]
)
def test_a_torn_or_missing_file_is_reported_on_opening(tmp_path: Path, name: str, share: float | None) -> None:
    write_corpus(tmp_path / "corpus", numbered(100))
    delete_passages(tmp_path / "corpus", ["p1"])
    path = tmp_path / "corpus" / name
    content = path.read_bytes()
    path.unlink()
    if share is not None:
        path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match="incomplete corpus" if share is None else "damaged corpus") as caught:
        Corpus.open(tmp_path / "corpus")
    assert not any(words in str(caught.value) for words in LIBRARIES)


def test_a_folder_that_is_no_corpus_is_reported(tmp_path: Path) -> None:
    for use in (Corpus.open, lambda folder: add_passages(folder, []), lambda folder: delete_passages(folder, ["a"])):
        with pytest.raises(UsageError, match="not a corpus folder"):
            use(tmp_path / "nowhere/corpus")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "corpus.json").write_text('{"format": 2')
    with pytest.raises(UsageError, match=r"corpus\.json"):
        Corpus.open(tmp_path)
    (tmp_path / "corpus.json").write_text('{"format": 1, "passages": 1, "fingerprint": "x"}')
    with pytest.raises(UsageError, match=r"format 1, .*import it again"):
        Corpus.open(tmp_path)
    (tmp_path / "corpus.json").write_text('{"format": 2, "segments": []}')
    with pytest.raises(UsageError, match="damaged corpus"):
        Corpus.open(tmp_path)
