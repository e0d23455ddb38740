"""Questions about a folder: an index in the cache that follows the folder."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from exsearch.cli.ask import ask
from exsearch.core.cache import cache_folder
from exsearch.core.errors import UsageError
from exsearch.retrieval.index.of_documents import index_of_documents
from exsearch.retrieval.index.open import open_index


def found(index: Path, query: str) -> list[str]:
    return [hit.passage.id for hit in open_index(index).search([query], 3)[0]]


def test_the_index_of_a_folder_is_kept_and_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "lamp.md").write_text("# Lamp\n\nIt burns colza oil.\n")
    index = index_of_documents(folder)
    assert index.is_relative_to(cache_folder())
    assert found(index, "oil") == ["lamp.md#lamp"]
    fingerprint = open_index(index).fingerprint
    assert index_of_documents(folder) == index and open_index(index).fingerprint == fingerprint

    (folder / "lamp.md").write_text("# Lamp\n\nIt is electric.\n")
    (folder / "new.txt").write_text("Oil is sold in the harbour.\n")
    assert found(index_of_documents(folder), "oil") == ["new.txt#L1"]
    (folder / "other").mkdir()
    (folder / "other" / "a.txt").write_text("Nothing.")
    assert index_of_documents(folder / "other") != index


def test_a_question_in_words_and_an_index_beside_a_folder_are_refused(tmp_path: Path) -> None:
    for arguments, message in {
        ("who", "built", "it"): "put the question into quotes",
        (str(tmp_path), "who", "--index", "somewhere"): "leave out FOLDER or --index",
        (str(tmp_path), " "): "the question is empty",
        (str(tmp_path), "who"): "has no documents",
    }.items():
        with pytest.raises(UsageError, match=message):
            CliRunner().invoke(ask, arguments, catch_exceptions=False, standalone_mode=False)
