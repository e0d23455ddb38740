"""The corpus on disk: what goes in comes out, and damage is noticed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.corpus import store
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.errors import UsageError


def numbered(count: int) -> list[Passage]:
    return [Passage(f"p{number}", f"Title {number}", f"text of {number}") for number in range(count)]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BATCH_ROWS", 4)


passages = st.lists(
    st.builds(Passage, st.text(), st.text(), st.text()),
    min_size=1,
    max_size=20,
    unique_by=lambda passage: passage.id,
)


@settings(max_examples=60, deadline=None)
@given(passages=passages)
def test_any_unicode_text_comes_back_by_row_by_id_and_in_order(passages: list[Passage]) -> None:
    with TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus", passages)
        assert len(corpus) == len(passages)
        assert list(corpus) == passages
        assert corpus.rows(range(len(passages))) == passages
        assert [corpus.by_id(passage.id) for passage in passages] == passages


@pytest.mark.usefixtures("small_batches")
def test_rows_come_in_the_order_asked_for_across_batches(tmp_path: Path) -> None:
    expected = numbered(11)
    corpus = write_corpus(tmp_path / "corpus", expected)
    wanted = [10, 0, 5, 0, 3, 4]
    assert corpus.rows(wanted) == [expected[row] for row in wanted]
    assert [len(batch) for batch in corpus.batches()] == [4, 4, 3]
    assert corpus[7] == expected[7]


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_outside_the_corpus_is_an_index_error(tmp_path: Path, row: int) -> None:
    with pytest.raises(IndexError, match="corpus of 3 passages"):
        write_corpus(tmp_path / "corpus", numbered(3))[row]


def test_an_unknown_id_is_none(tmp_path: Path) -> None:
    assert write_corpus(tmp_path / "corpus", numbered(3)).by_id("p3") is None


def test_ids_that_share_a_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_hash", lambda id: 7)
    expected = numbered(5)
    corpus = write_corpus(tmp_path / "corpus", expected)
    assert [corpus.by_id(passage.id) for passage in expected] == expected
    assert corpus.by_id("p5") is None
    with pytest.raises(UsageError, match="'p1' occurs twice: passages 2 and 6"):
        write_corpus(tmp_path / "corpus", [*expected, expected[1]])


def test_a_duplicate_id_is_refused_and_leaves_the_old_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", numbered(2))
    with pytest.raises(UsageError, match="'p3' occurs twice: passages 4 and 7"):
        write_corpus(tmp_path / "corpus", [*numbered(6), Passage("p3", "", "other")])
    assert len(Corpus.open(tmp_path / "corpus")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def source() -> Iterator[Passage]:
        yield from numbered(3)
        raise UsageError("line 4 is bad")

    with pytest.raises(UsageError, match="line 4"):
        write_corpus(tmp_path / "corpus", source())
    assert list(tmp_path.iterdir()) == []


def test_no_passages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no passages"):
        write_corpus(tmp_path / "corpus", [])


def test_a_lone_surrogate_is_refused_with_its_passage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"passage 2, id 'b': not valid Unicode"):
        write_corpus(tmp_path / "corpus", [Passage("a", "", "fine"), Passage("b", "", "\ud800")])


def test_a_folder_with_other_content_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds other files"):
        write_corpus(tmp_path, numbered(2))
    with pytest.raises(UsageError, match="is a file"):
        write_corpus(tmp_path / "thesis.tex", numbered(2))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.usefixtures("small_batches")
def test_the_fingerprint_depends_on_content_and_order_alone(tmp_path: Path) -> None:
    rows = numbered(9)

    def of(name: str, rows: list[Passage]) -> str:
        return write_corpus(tmp_path / name, rows).fingerprint

    first = of("a", rows)
    assert of("b", rows) == first
    assert of("c", rows[::-1]) != first
    assert of("d", [*rows[:8], Passage("p8", "Title 8text", " of 8")]) != first


def test_many_threads_may_read_one_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BATCH_ROWS", 16)
    expected = numbered(400)
    corpus = write_corpus(tmp_path / "corpus", expected)
    rows = list(range(400)) * 5
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(corpus.__getitem__, rows)) == [expected[row] for row in rows]


@pytest.mark.parametrize("name", ["passages.arrow", "ids.hash.npy", "ids.row.npy"])
@pytest.mark.parametrize("share", [None, 0.0, 0.5])
def test_a_torn_or_missing_file_is_reported_on_opening(tmp_path: Path, name: str, share: float | None) -> None:
    write_corpus(tmp_path / "corpus", numbered(100))
    path = tmp_path / "corpus" / name
    content = path.read_bytes()
    path.unlink()
    if share is not None:
        path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match="damaged corpus"):
        Corpus.open(tmp_path / "corpus")


def test_a_folder_that_is_no_corpus_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a corpus folder"):
        Corpus.open(tmp_path / "nowhere")
    (tmp_path / "corpus.json").write_text('{"format": 1')
    with pytest.raises(UsageError, match=r"corpus\.json"):
        Corpus.open(tmp_path)
    (tmp_path / "corpus.json").write_text('{"format": 99, "passages": 1, "fingerprint": "x"}')
    with pytest.raises(UsageError, match="format 99"):
        Corpus.open(tmp_path)
