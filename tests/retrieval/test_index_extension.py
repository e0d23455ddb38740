"""A corpus that gains and loses a thousand passages: found without a rebuild, and gone without one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from exsearch.cli.corpus import corpus as corpus_command
from exsearch.cli.index import index as index_command
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.index.open import open_index
from exsearch.world import World
from tiny_sentence_models import save_bert, save_sentence_encoder

OLD, NEW = 2000, 1000


def run(command: Any, *arguments: object) -> None:
    CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def finds_itself(retriever: Retriever, passages: Sequence[Passage]) -> list[bool]:
    """Whether a passage is among the first ten that its own words find."""
    found = retriever.search([f"{passage.title}\n{passage.text}" for passage in passages], 10)
    return [passage in [hit.passage for hit in hits] for passage, hits in zip(passages, found, strict=True)]


@pytest.mark.parametrize(
    "kind",
    ["bm25", pytest.param("late", marks=pytest.mark.slow), "dense", pytest.param("hybrid", marks=pytest.mark.slow)],
)
def test_a_thousand_passages_are_added_and_deleted_without_a_rebuild(kind: str, tmp_path: Path) -> None:
    """The encoders are small random ones: what is tested is what an index holds, not how well it ranks."""
    save = save_bert if kind == "late" else save_sentence_encoder
    encoder = save(tmp_path / "encoder")
    settings: list[str] = {
        "bm25": [],
        "late": [f"encoder={encoder}", "token_bytes=16"],
        "dense": [f"encoder={encoder}"],
        "hybrid": ['members=["bm25", "dense"]', f"dense.encoder={encoder}"],
    }[kind]
    passages = list(World(seed=5, passages=OLD + NEW).passages())
    write_corpus(folder := tmp_path / "corpus", passages[:OLD])
    command = [folder, "--retriever", kind, "--out", tmp_path / "index"]
    command += [word for setting in settings for word in ("--set", setting)]
    run(index_command, *command)
    built = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("segments/*/*")}

    rows = [{"id": each.id, "title": each.title, "text": each.text} for each in passages[OLD:]]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(corpus_command, "add", folder, tmp_path / "more.jsonl")
    run(index_command, *command)
    assert built and {path: path.stat().st_mtime_ns for path in built} == built
    grown = open_index(tmp_path / "index")
    assert sum(finds_itself(grown, passages[OLD:])) > 0.99 * NEW
    assert sum(finds_itself(grown, passages[:NEW])) > 0.99 * NEW

    gone = passages[OLD // 2 : OLD // 2 + NEW // 2] + passages[-NEW // 2 :]
    (tmp_path / "ids").write_text("".join(f"{passage.id}\n" for passage in gone))
    run(corpus_command, "delete", folder, "--from", tmp_path / "ids")
    assert len(Corpus.open(folder).deleted) == NEW
    left = open_index(tmp_path / "index")
    assert not any(finds_itself(left, gone))
    assert sum(finds_itself(left, passages[OLD : OLD + NEW // 2])) > 0.99 * NEW / 2
