"""`exsearch data retrieve`: every question with its documents, in two formats, and again from where it was stopped."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from exsearch.cli.main import exsearch
from exsearch.compat.searchlm.formats import read_source_questions
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.corpus.passage import Hit
from exsearch.corpus.store import write_corpus
from exsearch.questions.question import Question, read_questions
from exsearch.questions.with_hits import PairedQuestion
from exsearch.retrieval.bm25.bm25 import Bm25
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.open import open_retriever
from exsearch.world import World

QUESTIONS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieve")
    world = World(seed=5, passages=300)
    build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    write_jsonl(folder / "questions.jsonl", world.questions("train", limit=QUESTIONS))
    return folder


def retrieve(folder: Path, out: Path, *more: object) -> None:
    words = [folder / "questions.jsonl", "--index", folder / "index", "--out", out, "-k", 4, *more]
    exsearch(["data", "retrieve", *map(str, words)], standalone_mode=False)


def test_every_question_has_the_hits_of_its_own_text(folder: Path, tmp_path: Path) -> None:
    retrieve(folder, tmp_path / "d.jsonl")
    questions = read_questions(folder / "questions.jsonl")
    found = open_index(folder / "index").search([question.text for question in questions], 4)
    paired = list(read_jsonl(tmp_path / "d.jsonl", PairedQuestion))
    assert [[(h.id, h.title, h.text, h.score) for h in each.hits] for each in paired] == [
        [(h.passage.id, h.passage.title, h.passage.text, h.score) for h in hits] for hits in found
    ]
    assert read_questions(tmp_path / "d.jsonl") == questions, "the file is a question file, too"
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]


def test_the_reference_s_format_holds_the_same_documents_as_strings(folder: Path, tmp_path: Path) -> None:
    retrieve(folder, tmp_path / "d.jsonl")
    retrieve(folder, tmp_path / "d.json", "--format", "reference")
    entries = json.loads((tmp_path / "d.json").read_text())
    for entry, each in zip(entries, read_jsonl(tmp_path / "d.jsonl", PairedQuestion), strict=True):
        assert entry == {
            "query_id": each.id,
            "question": each.text,
            "answer": each.answers[0],
            "retrieval": [f"Title: {hit.title}. Content: {hit.text}" for hit in each.hits],
        }
    assert [q.id for q in read_source_questions(tmp_path / "d.json", 0, None)] == [e["query_id"] for e in entries]


@pytest.mark.parametrize("case", ["a folder", "the recording", "the questions"])
def test_what_cannot_or_must_not_be_replaced_is_refused_before_a_search(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Bm25, "search", lambda self, queries, k: asked.extend(queries))
    (tmp_path / "rec.sqlite").write_bytes(b"kept")
    out = {"a folder": tmp_path, "the recording": tmp_path / "rec.sqlite", "the questions": folder / "questions.jsonl"}
    before = (folder / "questions.jsonl").read_bytes()
    recorded = ["--set", f"data.record={tmp_path / 'rec.sqlite'}"] if case == "the recording" else []
    with pytest.raises(UsageError, match=r"a folder is in the way|is also an input, and would be replaced"):
        retrieve(folder, out[case], *recorded)
    assert asked == [] and (tmp_path / "rec.sqlite").read_bytes() == b"kept"
    assert (folder / "questions.jsonl").read_bytes() == before


class Interrupted:
    """Counts what the index is asked; stops with Ctrl-C at a batch."""

    def __init__(self, search: Callable[[Bm25, list[str], int], list[list[Hit]]], at_batch: int) -> None:
        self.search, self.left, self.queries = search, at_batch, list[str]()

    def __call__(self, retriever: Bm25, queries: list[str], k: int) -> list[list[Hit]]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.queries += queries
        return self.search(retriever, queries, k)


@pytest.mark.parametrize("layout", ["ours", "reference"])
def test_what_was_found_before_an_interruption_is_not_searched_for_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    retrieve(folder, tmp_path / "whole", "--format", layout)
    monkeypatch.setattr("exsearch.questions.with_hits.BATCH", 6)
    stopped = Interrupted(Bm25.search, at_batch=2)
    monkeypatch.setattr(Bm25, "search", lambda *arguments: stopped(*arguments))
    with pytest.raises(click.exceptions.Abort):
        retrieve(folder, tmp_path / "broken", "--format", layout)
    assert not (tmp_path / "broken").exists()
    stopped.left = -1
    retrieve(folder, tmp_path / "broken", "--format", layout)
    texts = [question.text for question in read_questions(folder / "questions.jsonl")]
    assert stopped.queries == texts, "each is searched for once"
    assert (tmp_path / "broken").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "whole"]


def test_recorded_searches_answer_with_no_index_at_hand(folder: Path, tmp_path: Path) -> None:
    record = tmp_path / "searches.sqlite"
    retrieve(folder, tmp_path / "d.jsonl", "--set", f"data.record={record}")
    retrieve(folder, tmp_path / "again.jsonl", "--index", f"replay:{record}")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "d.jsonl").read_bytes()
    replay = open_retriever(f"replay:{record}")
    question = read_questions(folder / "questions.jsonl")[3]
    assert replay.search([question.text], 4) == open_index(folder / "index").search([question.text], 4)


def test_a_question_without_an_answer_is_refused_where_the_format_needs_one(folder: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "q.jsonl", [Question("q", "Who?", [])])
    words = ["data", "retrieve", str(tmp_path / "q.jsonl"), "--index", str(folder / "index")]
    exsearch([*words, "--out", str(tmp_path / "d.jsonl")], standalone_mode=False)
    [paired] = read_jsonl(tmp_path / "d.jsonl", PairedQuestion)
    assert paired.answers == []
    with pytest.raises(UsageError, match="question 'q': needs"):
        exsearch([*words, "--out", str(tmp_path / "d.json"), "--format", "reference"], standalone_mode=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl", "q.jsonl"]


@pytest.mark.slow
def test_a_killed_retrieval_continues(folder: Path, tmp_path: Path) -> None:
    world = World(seed=5, passages=300)
    questions = [*world.questions("train", limit=1000), *world.questions("test", limit=1000)]
    write_jsonl(tmp_path / "q.jsonl", questions)
    words = [tmp_path / "q.jsonl", "--index", folder / "index", "-k", 20]
    exsearch(["data", "retrieve", *map(str, words), "--out", str(tmp_path / "whole.jsonl")], standalone_mode=False)
    out = tmp_path / "broken.jsonl"
    command = [sys.executable, "-m", "exsearch.cli.main", "data", "retrieve", *map(str, words), "--out", str(out)]
    record = tmp_path / ".broken.jsonl.searches"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not record.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert record.exists() and not out.exists(), "the kill should come in the middle of the work"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not list(tmp_path.glob(".broken*"))
