"""Indexes that grow by many small additions: few segments, the same hits and scores, nothing lost on the way."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.core.checksums import CHECKSUMS
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_json
from exsearch.core.locks import sole_writer
from exsearch.corpus.passage import Hit, Passage
from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus
from exsearch.retrieval.bm25.bm25 import Bm25
from exsearch.retrieval.dense import dense
from exsearch.retrieval.encoders import token_encoder
from exsearch.retrieval.index import update
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.folder import read_index_info
from exsearch.retrieval.index.open import open_index
from exsearch.world import World
from unsealed import text_of

FIRST, ALL = 60, 100
PASSAGES = list(World(seed=3, passages=200).passages())[:ALL]
QUERIES = [*(passage.title for passage in PASSAGES[::7]), "who wrote a novel", "a river in the north"]
SETTINGS: dict[str, dict[str, Any]] = {
    "bm25": {},
    "late": {"token_bytes": 8, "candidates": 20},
    "flat": {},
    "ivfpq": {"index": "ivfpq", "nlist": 4, "m": 8, "bits": 4, "nprobe": 2},
    "hnsw": {"index": "hnsw", "links": 8},
}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_sentence_models import save_bert, save_sentence_encoder

    folder = tmp_path_factory.mktemp("encoders")
    save_bert(folder / "late")
    if importlib.util.find_spec("sentence_transformers"):
        save_sentence_encoder(folder / "dense")
    return folder


@pytest.fixture(
    params=["bm25", "flat", "hnsw", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("late", "ivfpq"))]
)
def build(
    request: pytest.FixtureRequest, encoders: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path, Path], Path]:
    """What builds an index of one kind, of the corpus in one folder in another, encoded in float32 on any machine."""
    monkeypatch.setattr(dense, "best_precision", lambda: "float32")
    monkeypatch.setattr(token_encoder, "best_backend", lambda: "torch-float32")
    name: str = request.param
    if name in ("ivfpq", "hnsw") and importlib.util.find_spec("faiss") is None:
        pytest.skip("FAISS is not installed")
    kind = name if name in ("bm25", "late") else "dense"
    if kind == "dense" and importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed")
    encoder = {} if kind == "bm25" else {"encoder": str(encoders / kind)}
    return lambda corpus, out: build_index(Corpus.open(corpus), kind, out, **SETTINGS[name], **encoder)


def grow(folder: Path, build: Callable[[Path, Path], Path], step: int = 4) -> Path:
    """Build an index of the first passages, add the others in small steps, and delete some on the way."""
    write_corpus(folder / "corpus", PASSAGES[:FIRST])
    out = build(folder / "corpus", folder / "index")
    for first in range(FIRST, ALL, step):
        add_passages(folder / "corpus", PASSAGES[first : first + step])
        if first % 3 == 0:
            delete_passages(folder / "corpus", [PASSAGES[first // 2].id, PASSAGES[first].id])
        build(folder / "corpus", out)
    return out


def segments(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "segments").iterdir())


def searched(out: Path) -> list[list[Hit]]:
    return open_index(out).search(QUERIES, 30)


def test_merging_changes_no_hit_no_score_and_no_fingerprint_but_that_of_graphs(
    tmp_path: Path, build: Callable[[Path, Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = grow(tmp_path / "merged", build)
    with monkeypatch.context() as patch:
        patch.setattr(update, "segments_to_merge", lambda sizes, largest: [])
        apart = grow(tmp_path / "apart", build)
    assert len(segments(apart)) == 1 + (ALL - FIRST) / 4
    assert len(segments(merged)) <= 7
    assert searched(merged) == searched(apart)
    graphs = read_index_info(merged).parameters.get("index") == "hnsw"
    assert (open_index(merged).fingerprint == open_index(apart).fingerprint) is not graphs


def test_an_index_that_grew_gives_what_one_built_at_once_gives(
    tmp_path: Path, build: Callable[[Path, Path], Path]
) -> None:
    grown = grow(tmp_path, build)
    # what is trained on the first passages is the same for both
    partial = tmp_path / ".whole.partial"
    partial.mkdir()
    shutil.copytree(grown / "shared", partial / "shared")
    info = read_index_info(grown)
    plan = {"format": info.format, "kind": info.kind, "version": info.version, "parameters": info.parameters}
    write_json(partial / "plan.json", {**plan, "corpus": Corpus.open(tmp_path / "corpus").fingerprint})
    whole = build(tmp_path / "corpus", tmp_path / "whole")
    assert segments(whole) == [f"0-{ALL}"]
    for one, other in zip(searched(grown), searched(whole), strict=True):
        scores = {hit.passage.id: hit.score for hit in one}
        assert len(scores) == len(other) > 0
        # an encoder's last bits depend on what is encoded together
        assert [scores.get(hit.passage.id) for hit in other] == pytest.approx([hit.score for hit in other], abs=1e-4)
    same = open_index(grown).fingerprint == open_index(whole).fingerprint
    assert same is (info.encoder is None)
    if same:
        assert searched(grown) == searched(whole)


words = st.sampled_from(["apple", "banana", "running", "river", "stone", "the", "king", "glass"])
texts = st.lists(words, min_size=1, max_size=6).map(" ".join)


@settings(max_examples=25)
@given(
    changes=st.lists(st.tuples(st.lists(texts, min_size=1, max_size=5), st.sets(st.integers(0, 60), max_size=3))),
    queries=st.lists(texts, min_size=1, max_size=3),
)
def test_any_additions_and_deletions_leave_bm25_as_if_built_at_once(
    changes: list[tuple[list[str], set[int]]], queries: list[str]
) -> None:
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bm25, "segment_rows", 16)
        folder, rows = Path(name), 2
        write_corpus(folder / "corpus", [Passage("0", "stone", "river"), Passage("1", "", "king of glass")])
        grown = build_index(Corpus.open(folder / "corpus"), "bm25", folder / "grown")
        for added, gone in changes:
            corpus = add_passages(
                folder / "corpus", [Passage(str(rows + number), "", text) for number, text in enumerate(added)]
            )
            rows += len(added)
            if ids := [str(row) for row in gone if corpus.row_of(str(row)) is not None]:
                corpus = delete_passages(folder / "corpus", ids)
            build_index(corpus, "bm25", grown)
        whole = build_index(Corpus.open(folder / "corpus"), "bm25", folder / "whole")
        one, other = open_index(grown), open_index(whole)
        assert one.search(queries, 100) == other.search(queries, 100)
        assert one.search(queries, 3) == other.search(queries, 3)
        assert one.fingerprint == other.fingerprint
        assert all(int(stop) - int(start) <= 16 for start, _, stop in (s.partition("-") for s in segments(grown)))
        assert len(segments(grown)) <= 6 + 2 * rows / 16


def postings(out: Path) -> int:
    return sum(len(np.load(path)) for path in out.glob("segments/*/codes.npy"))


def test_what_is_deleted_is_dropped_in_a_merge_and_counts_in_the_statistics_as_before(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [Passage(str(row), "", f"stone river word{row}") for row in range(4)])
    out = build_index(corpus, "bm25", tmp_path / "index")
    delete_passages(corpus.folder, ["1", "2"])
    for row in range(4, 16, 4):
        more = [Passage(str(each), "", f"stone lamp word{each}") for each in range(row, row + 4)]
        build_index(add_passages(corpus.folder, more), "bm25", out)
    assert segments(out) == ["0-16"]
    assert np.load(out / "segments/0-16/dropped.npy").tolist() == [1, 2]
    whole = build_index(Corpus.open(corpus.folder), "bm25", tmp_path / "whole")
    assert postings(out) == postings(whole) - 6
    queries = ["stone", "river", "word1 lamp", "word2", "stone word3 river"]
    assert open_index(out).search(queries, 20) == open_index(whole).search(queries, 20)


def test_an_index_without_the_rows_that_another_corpus_still_has_is_refused_and_built_again(tmp_path: Path) -> None:
    out = grow(tmp_path, lambda corpus, out: build_index(Corpus.open(corpus), "bm25", out))
    write_corpus(tmp_path / "corpus", PASSAGES)  # the same rows, none of which is deleted
    with pytest.raises(UsageError, match="lacks passages that were deleted"):
        open_index(out)
    build_index(Corpus.open(tmp_path / "corpus"), "bm25", out)
    whole = build_index(Corpus.open(tmp_path / "corpus"), "bm25", tmp_path / "whole")
    assert searched(out) == searched(whole)


@pytest.fixture
def bm25(tmp_path: Path) -> Path:
    """A corpus of three passages in three segments, and its index in as many."""
    write_corpus(tmp_path / "corpus", PASSAGES[:1])
    for row in range(1, 4):
        out = build_index(Corpus.open(tmp_path / "corpus"), "bm25", tmp_path / "index")
        if row < 3:
            add_passages(tmp_path / "corpus", PASSAGES[row : row + 1])
    assert segments(out) == ["0-1", "1-2", "2-3"]
    return out


def test_who_has_an_index_open_goes_on_while_it_is_merged(tmp_path: Path, bm25: Path) -> None:
    reader = open_index(bm25)
    before = reader.search(QUERIES, 5)
    build_index(add_passages(tmp_path / "corpus", PASSAGES[3:4]), "bm25", bm25)
    assert segments(bm25) == ["0-4"]
    assert segments(tmp_path / "corpus") == ["0-4"]
    assert reader.search(QUERIES, 5) == before


def test_an_index_opened_while_its_segments_are_merged_is_read_again(
    tmp_path: Path, bm25: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = [read_index_info(bm25)]
    build_index(add_passages(tmp_path / "corpus", PASSAGES[3:4]), "bm25", bm25)
    infos[0] = type(infos[0])(**{**_fields(read_index_info(bm25)), "segments": infos[0].segments})
    place = "exsearch.retrieval.index.open.read_index_info"
    monkeypatch.setattr(place, lambda folder: infos.pop() if infos else read_index_info(folder))
    assert len(open_index(bm25).search([PASSAGES[3].title], 5)[0]) > 0
    assert infos == []


def _fields(info: Any) -> dict[str, Any]:
    return {name: getattr(info, name) for name in info.__struct_fields__}


def test_what_a_killed_extension_left_is_not_taken_for_other_passages(
    tmp_path: Path, bm25: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tmp_path / "corpus", tmp_path / "before")

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("exsearch.retrieval.index.build.write_json", killed)
        build_index(add_passages(tmp_path / "corpus", PASSAGES[3:4]), "bm25", bm25)
    shutil.rmtree(tmp_path / "corpus")
    shutil.move(tmp_path / "before", tmp_path / "corpus")
    build_index(add_passages(tmp_path / "corpus", PASSAGES[9:10]), "bm25", bm25)
    assert open_index(bm25).search([PASSAGES[9].title], 1)[0][0].passage == PASSAGES[9]
    whole = build_index(Corpus.open(tmp_path / "corpus"), "bm25", tmp_path / "whole")
    assert searched(bm25) == searched(whole)


def test_an_index_with_many_segments_and_another_fingerprint_keeps_it_until_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were written before segments were merged: their boundaries were part of the fingerprint."""
    with monkeypatch.context() as patch:
        patch.setattr(update, "segments_to_merge", lambda sizes, largest: [])
        out = grow(tmp_path, lambda corpus, out: build_index(Corpus.open(corpus), "bm25", out))
    info = json.loads(text_of(out / "index.json"))
    (out / "index.json").write_text(json.dumps({**info, "fingerprint": "0123456789abcdef"}))
    before, opened = searched(out), open_index(out).fingerprint
    build_index(Corpus.open(tmp_path / "corpus"), "bm25", out)
    assert len(segments(out)) <= 7
    assert read_index_info(out).fingerprint == "0123456789abcdef"
    assert (searched(out), open_index(out).fingerprint) == (before, opened)
    build_index(add_passages(tmp_path / "corpus", [Passage("new", "", "lamp")]), "bm25", out)
    whole = build_index(Corpus.open(tmp_path / "corpus"), "bm25", tmp_path / "whole")
    assert read_index_info(out).fingerprint == read_index_info(whole).fingerprint


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_an_open_index_keeps_no_file_open(tmp_path: Path, build: Callable[[Path, Path], Path]) -> None:
    out = grow(tmp_path, build, step=15)
    open_index(out)  # what the libraries open once
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened = [open_index(out) for _ in range(3)]
    assert len(segments(out)) > 3
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert all(retriever.search(QUERIES[:1], 3) for retriever in opened)


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="needs a limit on open files")
def test_150_additions_leave_an_index_that_opens_with_64_files(tmp_path: Path) -> None:
    import resource

    write_corpus(tmp_path / "corpus", [Passage("p0", "Lamp 0", "The lamp number 0 is green.")])
    for number in range(1, 151):
        corpus = add_passages(
            tmp_path / "corpus", [Passage(f"p{number}", f"Lamp {number}", f"The lamp number {number} is green.")]
        )
        out = build_index(corpus, "bm25", tmp_path / "index")
    assert max(len(segments(out)), len(segments(corpus.folder))) <= 12
    command = [sys.executable, "-m", "exsearch.cli.main", "search", str(out), "lamp 77", "-k", "1", "--json"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))  # noqa: E731
    found = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=True)
    assert [hit["passage"]["id"] for hit in json.loads(found.stdout)] == ["p77"]


def test_two_that_extend_one_index_do_not_meet_and_the_second_says_who_the_first_is(tmp_path: Path, bm25: Path) -> None:
    add_passages(tmp_path / "corpus", PASSAGES[3:4])
    command = [sys.executable, "-m", "exsearch.cli.main", "index", str(tmp_path / "corpus"), "--retriever", "bm25"]
    command += ["--out", str(bm25)]
    with sole_writer(bm25):
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    [line] = second.stderr.splitlines()
    assert line.startswith(f"error: {bm25}: process {os.getpid()} on ") and "is writing it; wait" in line
    assert segments(bm25) == ["0-1", "1-2", "2-3"]
    subprocess.run(command, capture_output=True, check=True)
    assert segments(bm25) == ["0-4"]
    assert not (tmp_path / ".index.lock").exists()


def test_an_index_that_another_process_has_extended_meanwhile_is_not_taken_back(tmp_path: Path, bm25: Path) -> None:
    stale = Corpus.open(tmp_path / "corpus")
    build_index(add_passages(tmp_path / "corpus", PASSAGES[3:4]), "bm25", bm25)
    build_index(stale, "bm25", bm25)
    assert read_index_info(bm25).passages == 4


def test_what_is_damaged_is_built_again_and_nothing_else(
    tmp_path: Path, build: Callable[[Path, Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    out = grow(tmp_path, build)
    before, fingerprint = searched(out), read_index_info(out).fingerprint
    merged = max((out / "segments").iterdir(), key=rows_after_the_first)
    assert rows_after_the_first(merged) > 4
    for segment in {out / "segments" / segments(out)[0], merged}:
        others = {file: file.stat().st_mtime_ns for file in out.glob("segments/*/*") if segment not in file.parents}
        files = [file for file in sorted(segment.rglob("*")) if file.is_file()]
        files = [file for file in files if file.name not in ("dropped.npy", "parts.npy", "lost.npy", CHECKSUMS)]
        for file, share in zip(files, cycle((0.99, None, 0.0)), strict=False):
            content = file.read_bytes()
            file.unlink()
            if share is not None:
                file.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(UsageError, match=r"(damaged|incomplete) index.*; build it again \(exsearch index"):
                open_index(out)
            build(tmp_path / "corpus", out)
            assert f"{segment}: damaged; built again" in caplog.text
            caplog.clear()
            assert searched(out) == before
        assert {file: file.stat().st_mtime_ns for file in others} == others
    assert read_index_info(out).fingerprint == fingerprint


def rows_after_the_first(segment: Path) -> int:
    first, _, stop = segment.name.partition("-")
    return int(stop) - max(int(first), FIRST)


def test_a_damaged_index_json_or_quantiser_is_replaced_by_a_new_index(
    tmp_path: Path, build: Callable[[Path, Path], Path]
) -> None:
    write_corpus(tmp_path / "corpus", PASSAGES)
    out = build(tmp_path / "corpus", tmp_path / "index")
    before = searched(out)
    for file in (out / "index.json", *sorted((out / "shared").iterdir())):
        file.write_bytes(file.read_bytes()[:40])
        build(tmp_path / "corpus", out)
        assert searched(out) == before, file
