"""Index folders: self-describing, atomic, bound to their corpus."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import Stemmer
from click.testing import CliRunner

from exsearch.cli.index import index as index_command
from exsearch.cli.search import search as search_command
from exsearch.core.errors import UsageError
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus
from exsearch.retrieval.bm25 import bm25
from exsearch.retrieval.bm25.bm25 import Bm25
from exsearch.retrieval.bm25.stems import stems_digest
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.folder import StemmerInfo, read_index_info
from exsearch.retrieval.index.open import open_index
from unsealed import text_of


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
    assert info.corpus_prefix == corpus.fingerprint
    assert info.parameters == {"k1": 1.5, "b": 0.4, "title_weight": 6.0, "title_b": 1.0}
    (tmp_path / "elsewhere").mkdir()
    for name in ("corpus", "index"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    retriever = open_index(tmp_path / "elsewhere" / "index")
    assert retriever.search(["sea"], 1)[0][0].passage.id == "a"


def test_a_corpus_that_moved_alone_is_named_by_the_user(tmp_path: Path, index: Path) -> None:
    shutil.move(tmp_path / "corpus", tmp_path / "moved")
    with pytest.raises(UsageError, match="--corpus DIR"):
        open_index(index)
    assert open_index(index, tmp_path / "moved").search(["sea"], 1)[0]


def test_an_index_of_another_corpus_is_refused(tmp_path: Path, index: Path) -> None:
    write_corpus(tmp_path / "corpus", [Passage("a", "Shark", "changed"), Passage("b", "", "")])
    with pytest.raises(UsageError, match=r"built from another corpus.*--retriever bm25"):
        open_index(index)


def test_the_fingerprint_follows_corpus_and_parameters(tmp_path: Path, corpus: Corpus, index: Path) -> None:
    def of(**parameters: float) -> str:
        return read_index_info(build_index(corpus, "bm25", tmp_path / "other", **parameters)).fingerprint

    assert of() == read_index_info(index).fingerprint
    assert of(k1=0.9) != of()


def outdated(index: Path) -> Path:
    """Make `index` look as the first version built it, whose index.json did not name versions."""
    info = json.loads(text_of(index / "index.json"))
    del info["version"]
    (index / "index.json").write_text(json.dumps(info))
    return index


@pytest.mark.parametrize("kind", ["bm25", "late"])
def test_an_index_of_an_older_version_must_be_built_again_and_is(tmp_path: Path, corpus: Corpus, kind: str) -> None:
    index = build_index(corpus, kind, tmp_path / kind)
    before = read_index_info(index)
    outdated(index)
    with pytest.raises(UsageError, match=rf"{kind} index of version 1, .*\(exsearch index .* --retriever {kind} --out"):
        open_index(index)
    arguments = [str(corpus.folder), "--retriever", kind, "--out", str(index)]
    CliRunner().invoke(index_command, arguments, catch_exceptions=False)
    assert read_index_info(index) == before
    assert open_index(index).search(["sea"], 1)[0][0].passage.id == "a"


def test_the_version_is_part_of_the_fingerprint(
    tmp_path: Path, corpus: Corpus, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bm25, "version", Bm25.version + 1)
    later = build_index(corpus, "bm25", tmp_path / "later")
    assert read_index_info(later).fingerprint != read_index_info(index).fingerprint


def test_a_stopped_build_of_an_older_version_is_not_continued(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bm25, "build_segment", stop)
        patch.setattr(Bm25, "version", Bm25.version - 1)
        with pytest.raises(KeyboardInterrupt):
            build_index(corpus, "bm25", tmp_path / "index")
    (tmp_path / ".index.partial" / "leftover").touch()
    assert not (build_index(corpus, "bm25", tmp_path / "index") / "leftover").exists()


def test_an_index_of_another_stemmer_is_refused_with_its_version_and_built_again_by_the_advice(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "index"
    plain = read_index_info(build_index(corpus, "bm25", tmp_path / "plain"))
    with monkeypatch.context() as other:
        other.setattr(bm25, "stems_digest", lambda: "otherwise")
        other.setattr(bm25, "stemmer_version", lambda: "3.0.0")
        build_index(corpus, "bm25", out)
        assert open_index(out).search(["sea"], 1)[0]
    info = read_index_info(out)
    assert info.stemmer == StemmerInfo("PyStemmer 3.0.0", "otherwise") and info.fingerprint != plain.fingerprint
    message = r"stemmed by PyStemmer 3\.0\.0, and the installed PyStemmer \S+ stems some differently; python -m pip"
    with pytest.raises(UsageError, match=f"{message} install PyStemmer==3.0.0, or build it again"):
        open_index(out)
    build_index(corpus, "bm25", out)
    assert read_index_info(out) == plain and open_index(out).search(["sea"], 1)[0]


def test_an_index_that_does_not_record_its_stemmer_opens_and_keeps_its_fingerprint(corpus: Corpus, index: Path) -> None:
    before = read_index_info(index)
    record = json.loads(text_of(index / "index.json"))
    del record["stemmer"]
    (index / "index.json").write_text(json.dumps(record))
    assert open_index(index).search(["sea"], 1)[0]
    build_index(corpus, "bm25", index)
    assert read_index_info(index).fingerprint == before.fingerprint


def test_the_stemmer_is_identified_by_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    class Earlier:
        """Stems one word as PyStemmer 3.0.0 does."""

        def __init__(self, language: str) -> None:
            self.plain = stemmer(language)

        def stemWords(self, words: list[str]) -> list[str]:  # noqa: N802 (PyStemmer's name)
            stems: list[str] = self.plain.stemWords(words)
            stems[words.index("international")] = "intern"
            return stems

    stemmer, digest = Stemmer.Stemmer, stems_digest.__wrapped__
    now = digest()
    assert digest() == now
    monkeypatch.setattr(Stemmer, "Stemmer", Earlier)
    assert digest() != now or stemmer("english").stemWord("international") == "intern"


def test_an_unknown_kind_or_parameter_is_refused_with_the_nearest(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(UsageError, match=r"'bm52'.*did you mean 'bm25'"):
        build_index(corpus, "bm52", tmp_path / "index")
    with pytest.raises(UsageError, match="no parameter 'k'; did you mean 'k1'"):
        build_index(corpus, "bm25", tmp_path / "index", k=1.0)
    with pytest.raises(UsageError, match="'k1' must be a number, not \"high\""):
        build_index(corpus, "bm25", tmp_path / "index", k1="high")
    with pytest.raises(UsageError, match=r"'b' must be at least 0 and at most 1, not 2\.0"):
        build_index(corpus, "bm25", tmp_path / "index", b=2.0)
    for name in ("k1", "title_weight"):
        for value in (float("inf"), float("nan"), 1e300, -1.0):
            with pytest.raises(UsageError, match=f"'{name}' must be at least 0 and at most "):
                build_index(corpus, "bm25", tmp_path / "index", **{name: value})
    assert not (tmp_path / "index").exists()


def test_an_index_that_names_parameters_it_cannot_have_is_built_again_by_what_is_advised(
    tmp_path: Path, corpus: Corpus, index: Path
) -> None:
    info = json.loads(text_of(index / "index.json"))
    for value in (None, "high", -1.0):
        (index / "index.json").write_text(json.dumps({**info, "parameters": {**info["parameters"], "k1": value}}))
        with pytest.raises(UsageError, match=r"damaged index \('k1' must be .*; build it again"):
            open_index(index)
        build_index(corpus, "bm25", index)
        assert open_index(index).search(["sea"], 1)[0][0].passage.id == "a"


def test_a_folder_with_other_content_is_never_replaced(tmp_path: Path, corpus: Corpus) -> None:
    for out in (tmp_path, corpus.folder):
        with pytest.raises(UsageError, match="has other files"):
            build_index(corpus, "bm25", out)
    assert len(Corpus.open(corpus.folder)) == 2


LIBRARIES = ("Expected to read", "magic string", "cannot reshape", "No data left", "Tried reading", "EOF")
"""How those that read the files speak of damage."""


@pytest.mark.parametrize("name", ["terms.npy", "starts.npy", "rows.npy", "codes.npy", "titles.npy", "words.npy"])
@pytest.mark.parametrize("share", [None, 0.0, 0.6])
def test_a_torn_or_missing_file_is_reported_on_opening(index: Path, name: str, share: float | None) -> None:
    file = index / "segments" / "0-2" / name
    content = file.read_bytes()
    file.unlink()
    if share is not None:
        file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match="incomplete index" if share is None else "damaged index") as caught:
        open_index(index)
    assert not any(words in str(caught.value) for words in LIBRARIES)


def test_a_plan_that_is_damaged_is_no_reason_to_refuse_a_build(tmp_path: Path, corpus: Corpus) -> None:
    partial = tmp_path / ".index.partial"
    partial.mkdir()
    (partial / "plan.json").write_text('{"kind": "bm')
    open_index(build_index(corpus, "bm25", tmp_path / "index"))


def test_the_advice_of_a_damaged_index_makes_the_same_index_again(tmp_path: Path, corpus: Corpus) -> None:
    index = build_index(corpus, "bm25", tmp_path / "my index", k1=0.9)
    before = (open_index(index).fingerprint, open_index(index).search(["sea"], 2))
    (index / "segments" / "0-2" / "rows.npy").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        open_index(index)
    advice = str(caught.value).rpartition("build it again (exsearch index ")[2].removesuffix(")")
    assert "--set k1=0.9" in advice
    CliRunner().invoke(index_command, shlex.split(advice), catch_exceptions=False)
    assert (open_index(index).fingerprint, open_index(index).search(["sea"], 2)) == before


def test_a_folder_that_is_no_index_is_reported(tmp_path: Path, index: Path) -> None:
    with pytest.raises(UsageError, match="not an index folder"):
        open_index(tmp_path)
    text = text_of(index / "index.json")
    (index / "index.json").write_text(text.replace('"format": 2', '"format": 99'))
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


def test_passages_that_a_corpus_gains_are_indexed_by_the_same_call_without_a_rebuild(
    tmp_path: Path, corpus: Corpus, index: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (index / "segments").rglob("*.npy")}
    add_passages(corpus.folder, [Passage("c", "Whale", "lives in the sea"), Passage("d", "", "another sea")])
    with pytest.raises(UsageError, match=r"2 passages were added.*exsearch index"):
        open_index(index)
    build_index(Corpus.open(corpus.folder), "bm25", index)
    assert read_index_info(index).segments == [(0, 2), (2, 4)]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    [hits] = open_index(index).search(["sea"], 5)
    assert {hit.passage.id for hit in hits} == {"a", "c", "d"}
    rebuilt = build_index(Corpus.open(corpus.folder), "bm25", tmp_path / "rebuilt")
    assert open_index(rebuilt).search(["sea", "whale"], 5) == open_index(index).search(["sea", "whale"], 5)


def test_a_finished_index_is_not_built_again(corpus: Corpus, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bm25, "build_segment", lambda *arguments: pytest.fail("built again"))
    before = (index / "index.json").read_bytes()
    build_index(corpus, "bm25", index)
    assert (index / "index.json").read_bytes() == before


def test_other_parameters_replace_an_index(corpus: Corpus, index: Path) -> None:
    build_index(corpus, "bm25", index, k1=0.9)
    assert read_index_info(index).parameters["k1"] == 0.9


@pytest.mark.parametrize("kind", ["bm25", "late"])
def test_a_deleted_passage_is_never_a_hit_and_changes_the_fingerprint(
    tmp_path: Path, corpus: Corpus, kind: str
) -> None:
    index = build_index(corpus, kind, tmp_path / kind)
    before = open_index(index)
    assert "a" in {hit.passage.id for hit in before.search(["lives in the sea"], 5)[0]}
    delete_passages(corpus.folder, ["a"])
    after = open_index(index)
    assert after.fingerprint != before.fingerprint
    assert [hit.passage.id for hit in after.search(["lives in the sea"], 5)[0]] == ["b"]


def test_a_build_that_fails_midway_continues_with_the_missing_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "corpus", [Passage(str(row), "", f"word{row} sea") for row in range(10)])
    monkeypatch.setattr(Bm25, "segment_rows", 3)
    uninterrupted = build_index(corpus, "bm25", tmp_path / "uninterrupted")
    built: list[range] = []
    build_segment = Bm25.build_segment

    def stopped_at_third(corpus: Corpus, rows: range, *rest: Any) -> None:
        if len(built) == 2:
            built.append(rows)
            raise KeyboardInterrupt
        built.append(rows)
        build_segment(corpus, rows, *rest)

    monkeypatch.setattr(Bm25, "build_segment", stopped_at_third)
    with pytest.raises(KeyboardInterrupt):
        build_index(corpus, "bm25", tmp_path / "index")
    assert not (tmp_path / "index").exists()
    index = build_index(corpus, "bm25", tmp_path / "index")
    assert [rows.start for rows in built] == [0, 3, 6, 6, 9]
    assert (index / "index.json").read_bytes() == (uninterrupted / "index.json").read_bytes()
    assert open_index(index).search(["sea word4"], 20) == open_index(uninterrupted).search(["sea word4"], 20)
    assert not (tmp_path / ".index.partial").exists()


def test_a_stopped_build_of_other_parameters_is_not_continued(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bm25, "build_segment", stop)
        with pytest.raises(KeyboardInterrupt):
            build_index(corpus, "bm25", tmp_path / "index", k1=2.0)
    (tmp_path / ".index.partial" / "leftover").touch()
    index = build_index(corpus, "bm25", tmp_path / "index")
    assert not (index / "leftover").exists()


def test_a_budget_chooses_the_compression_and_says_what_it_costs(tmp_path: Path, corpus: Corpus) -> None:
    run = CliRunner().invoke
    arguments = [str(corpus.folder), "--retriever", "late", "--out", str(tmp_path / "late"), "--disk"]
    made = run(index_command, [*arguments, "2 kB", "--json"], catch_exceptions=False)
    assert json.loads(made.stdout)["parameters"]["token_bytes"] < 96
    assert "recall@5" in made.stderr
    with pytest.raises(UsageError, match="takes at least"):
        run(index_command, [*arguments, "10B"], catch_exceptions=False)
    with pytest.raises(UsageError, match="write it like 8GB"):
        run(index_command, [*arguments, "much"], catch_exceptions=False)
    with pytest.raises(UsageError, match="remove it from --set"):
        run(index_command, [*arguments, "1GB", "--set", "token_bytes=32"], catch_exceptions=False)
