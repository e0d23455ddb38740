"""Index folders: self-describing, atomic, bound to their corpus."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from exsearch.cli.index import index as index_command
from exsearch.cli.search import search as search_command
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.errors import UsageError
from exsearch.retrieval.index import build_index, open_index, read_index_info


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rows = [Passage("a", "Shark", "lives in the \x1b[31m sea"), Passage("b", "Lion", "lives in the savanna")]
    return write_corpus(tmp_path / "corpus", rows)


@pytest.fixture
def index(tmp_path: Path, corpus: Corpus) -> Path:
    return build_index(corpus, "bm25", tmp_path / "index")


def test_an_index_describes_itself_and_moves_with_its_corpus(tmp_path: Path, index: Path, corpus: Corpus) -> None:
    info = read_index_info(index)
    assert (info.kind, info.passages, info.corpus) == ("bm25", 2, "../corpus")
    assert info.corpus_fingerprint == corpus.fingerprint
    assert info.parameters == {"k1": 1.5, "b": 0.75}
    (tmp_path / "elsewhere").mkdir()
    for name in ("corpus", "index"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    retriever = open_index(tmp_path / "elsewhere" / "index")
    assert retriever.fingerprint == info.fingerprint
    assert retriever.search(["sea"], 1)[0][0].passage.id == "a"


def test_a_corpus_that_moved_alone_is_named_by_the_user(tmp_path: Path, index: Path) -> None:
    shutil.move(tmp_path / "corpus", tmp_path / "moved")
    with pytest.raises(UsageError, match="--corpus DIR"):
        open_index(index)
    assert open_index(index, tmp_path / "moved").search(["sea"], 1)[0]


def test_an_index_of_another_corpus_is_refused_with_both_fingerprints(tmp_path: Path, index: Path) -> None:
    before = read_index_info(index).corpus_fingerprint
    after = write_corpus(tmp_path / "corpus", [Passage("a", "Shark", "changed"), Passage("b", "", "")]).fingerprint
    with pytest.raises(UsageError, match=f"{before}.*{after}.*--retriever bm25"):
        open_index(index)


def test_the_fingerprint_follows_corpus_and_parameters(tmp_path: Path, corpus: Corpus, index: Path) -> None:
    def of(**parameters: float) -> str:
        return read_index_info(build_index(corpus, "bm25", tmp_path / "other", **parameters)).fingerprint

    assert of() == read_index_info(index).fingerprint
    assert of(k1=0.9) != of()


def test_an_unknown_kind_or_parameter_is_refused_with_the_nearest(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(UsageError, match=r"'bm52'.*did you mean 'bm25'"):
        build_index(corpus, "bm52", tmp_path / "index")
    with pytest.raises(UsageError, match="no parameter 'k'; did you mean 'k1'"):
        build_index(corpus, "bm25", tmp_path / "index", k=1.0)
    with pytest.raises(UsageError, match="Expected `float`"):
        build_index(corpus, "bm25", tmp_path / "index", k1="high")
    with pytest.raises(UsageError, match="<= 1"):
        build_index(corpus, "bm25", tmp_path / "index", b=2.0)
    assert not (tmp_path / "index").exists()


def test_a_folder_with_other_content_is_never_replaced(tmp_path: Path, corpus: Corpus) -> None:
    for out in (tmp_path, corpus.folder):
        with pytest.raises(UsageError, match="holds other files"):
            build_index(corpus, "bm25", out)
    assert len(Corpus.open(corpus.folder)) == 2


@pytest.mark.parametrize(
    "name",
    [
        "data.csc.index.npy",
        "indices.csc.index.npy",
        "indptr.csc.index.npy",
        "vocab.index.json",
        "params.index.json",
    ],
)
@pytest.mark.parametrize("share", [None, 0.0, 0.6])
def test_a_torn_or_missing_file_is_reported_on_opening(index: Path, name: str, share: float | None) -> None:
    content = (index / name).read_bytes()
    (index / name).unlink()
    if share is not None:
        (index / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match="damaged index"):
        open_index(index)


def test_a_folder_that_is_no_index_is_reported(tmp_path: Path, index: Path) -> None:
    with pytest.raises(UsageError, match="not an index folder"):
        open_index(tmp_path)
    text = (index / "index.json").read_text()
    (index / "index.json").write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(UsageError, match="format 99"):
        open_index(index)
    (index / "index.json").write_text(text.replace('"bm25"', '"bm26"'))
    with pytest.raises(UsageError, match="did you mean 'bm25'"):
        open_index(index)
    (index / "index.json").write_text(text[:40])
    with pytest.raises(UsageError, match=r"index\.json"):
        open_index(index)


def test_the_commands_build_and_search(tmp_path: Path, corpus: Corpus) -> None:
    run = CliRunner().invoke
    out = str(tmp_path / "index")
    arguments = [str(corpus.folder), "--retriever", "bm25", "--out", out, "--json"]
    made = json.loads(run(index_command, arguments, catch_exceptions=False).stdout)
    assert (made["index"], made["kind"], made["passages"]) == (out, "bm25", 2)
    [hit] = json.loads(run(search_command, [out, "sea", "--json"], catch_exceptions=False).stdout)
    assert (hit["passage"]["id"], hit["rank"]) == ("a", 1)
    shown = run(search_command, [out, "who lives in the sea", "-k", "2"], catch_exceptions=False).stdout
    assert "  1. " in shown and "Shark" in shown and "Lion" in shown
    assert "\x1b" not in shown
