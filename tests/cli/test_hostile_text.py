"""Text from outside is shown as text: it neither moves the cursor, nor colours, nor reverses what a terminal shows.

What an agent says is in `test_narrate.py`, what comparisons list in `evaluation/test_compare.py`.
"""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from exsearch.cli.main import exsearch
from exsearch.core.jsonl import write_jsonl
from exsearch.core.messages import printable
from exsearch.corpus.passage import Passage
from exsearch.questions.question import Question, SubQuestion

CLEAR, TITLE, REVERSED = "\x1b[2J", "\x1b]0;mine\x07", "\u202egnp.exe"
HOSTILE = f"{CLEAR}{TITLE}{REVERSED}[bold red]Orsk[/bold red]\r\x08\x9b31m"
STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""What our own colours are written with."""
PASSAGE = Passage(f"p{HOSTILE}", f"Orsk {HOSTILE}", f"Orsk Harbour {HOSTILE} lies on the Velm.")
QUESTION = Question(
    f"q{HOSTILE}",
    f"Where is Orsk {HOSTILE}?",
    [f"Velm {HOSTILE}"],
    gold_passages=[PASSAGE.id],
    sub_questions=[SubQuestion(f"Orsk {HOSTILE}", ["Velm"], PASSAGE.id, PASSAGE.text)],
)


def assert_harmless(shown: str) -> None:
    left = STYLE.sub("", shown)
    assert "Orsk" in left
    assert not [character for character in left if not character.isprintable() and character not in "\n\t"], repr(left)
    assert "[bold red]" in left, "no markup is read"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_jsonl(folder / "passages.jsonl", [PASSAGE, PASSAGE, Passage("b", "Velm", "A river.")])
    write_jsonl(folder / "questions.jsonl", [QUESTION])
    hotpot: dict[str, object] = {"_id": QUESTION.id, "question": QUESTION.text, "answer": "Velm", "context": []}
    hotpot["supporting_facts"] = [[f"Orsk nowhere {HOSTILE}", 0]]
    (folder / "hotpot.json").write_bytes(msgspec.json.encode([hotpot, {**hotpot, "_id": "other"}]))
    return folder


def shown_by(*words: object) -> str:
    """What a verb prints on a terminal with colours."""
    done = CliRunner().invoke(exsearch, [*map(str, words)], color=True, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_verbs_show_passages_and_questions_as_text(folder: Path, tmp_path: Path) -> None:
    imported = shown_by("corpus", "import", folder / "passages.jsonl", "--out", tmp_path / "corpus")
    assert_harmless(imported)
    shown_by("index", tmp_path / "corpus", "--retriever", "bm25", "--out", tmp_path / "index")
    assert_harmless(shown_by("search", tmp_path / "index", "Orsk"))
    of_questions = shown_by(
        *("data", "import", folder / "hotpot.json", "--corpus", tmp_path / "corpus", "--out", tmp_path / "q.jsonl")
    )
    assert_harmless(of_questions)


def test_an_error_shows_a_name_as_text(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "exsearch.cli.main", "search", f"{tmp_path}/Orsk {CLEAR}{REVERSED}[bold red]", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert_harmless(done.stderr)


def test_scripts_and_emoji_keep_their_joiners() -> None:
    for text in ("می\u200cخواهم", "\U0001f469\u200d\U0001f52c", "क्\u200dष"):
        assert printable(text) == text
