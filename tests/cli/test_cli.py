"""The command line: quick to start, and a user's mistake is one line, not a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exsearch.cli import main as command
from exsearch.cli.main import VERBS
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.index.build import build_index

Run = Callable[..., tuple[int, str, str]]
QUESTION = {"id": "q", "text": "Who?", "answers": ["Marie Curie"]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["exsearch", *map(str, arguments)])
        capsys.readouterr()  # what the fixtures printed
        try:
            command.main()
            code: object = 0
        except SystemExit as end:
            code = end.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a corpus, an index and good and bad files."""
    monkeypatch.chdir(tmp_path)
    passages = [Passage("a", "France", "Its capital is Paris."), Passage("b", "Italy", "Its capital is Rome.")]
    build_index(write_corpus(tmp_path / "corpus", passages), "bm25", tmp_path / "index")
    build_index(write_corpus(tmp_path / "changed", passages[:1]), "bm25", tmp_path / "stale")
    write_corpus(tmp_path / "changed", passages[1:])
    (tmp_path / "empty").mkdir()
    write_jsonl(tmp_path / "good.jsonl", [QUESTION])
    (tmp_path / "torn.jsonl").write_text(json.dumps(QUESTION) + '\n{"id": "r", "text"')
    (tmp_path / "twice.jsonl").write_text(json.dumps(QUESTION) + "\n" + json.dumps(QUESTION) + "\n")
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "mute.jsonl").write_text('{"id": "q", "text": "Who?", "answers": []}\n')
    (tmp_path / "typo.toml").write_text("[explore]\nsample = 3\n")
    (tmp_path / "broken.toml").write_text("[explore\n")
    (tmp_path / "passages.jsonl").write_text('{"id": "a", "contents": "x"}\nnot json\n')
    return tmp_path


def test_help_starts_without_any_heavy_import() -> None:
    program = (
        "import sys; from exsearch.cli.main import exsearch\n"
        "exsearch(['--help'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'pyarrow', 'rich', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "quickstart" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(run: Run, verb: str) -> None:
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, "")
    assert f"exsearch {verb}" in out


def test_the_list_of_verbs_is_what_they_say_of_themselves(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    listed = " ".join(out.split())
    assert all(f"{verb} {words}" in listed for verb, words in VERBS.items())


@pytest.mark.parametrize(("typed", "meant"), [("serch", "search"), ("trian", "train"), ("quickstat", "quickstart")])
def test_an_unknown_verb_is_answered_with_the_nearest(run: Run, typed: str, meant: str) -> None:
    code, _, err = run(typed)
    assert code == 2
    assert f"did you mean '{meant}'?" in err


MISTAKES = [
    (("search", "nowhere", "x"), "nowhere: not an index folder"),
    (("search", "corpus", "x"), "corpus: not an index folder"),
    (("search", "stale", "x"), "build the index again"),
    (("index", "nowhere", "--retriever", "bm25", "--out", "o"), "nowhere: not a corpus folder"),
    (("index", "corpus", "--retriever", "bm52", "--out", "o"), "did you mean 'bm25'?"),
    (("corpus", "import", "nowhere.jsonl", "--out", "o"), "nowhere.jsonl"),
    (("corpus", "import", "passages.jsonl", "--out", "o"), "passages.jsonl, line 2"),
    (("explore", "nowhere.jsonl", "--index", "index", "--out", "o"), "nowhere.jsonl: no such file"),
    (("explore", "torn.jsonl", "--index", "index", "--out", "o"), "torn.jsonl, line 2"),
    (("explore", "twice.jsonl", "--index", "index", "--out", "o"), "the id occurs twice"),
    (("explore", "none.jsonl", "--index", "index", "--out", "o"), "has no questions"),
    (("eval", "--questions", "mute.jsonl", "--index", "index", "--out", "o"), "question 'q': needs"),
    (("explore", "good.jsonl", "--index", "nowhere", "--out", "o"), "nowhere: not an index folder"),
    (("explore", "good.jsonl", "--index", "stale", "--out", "o"), "build the index again"),
    (("explore", "good.jsonl", "--index", "index", "--out", "o", "--model", "./empty"), "empty: not a model folder"),
    (("explore", "good.jsonl", "--index", "index", "--out", "o", "--model", "builtin:smol"), "no embedded model"),
    (
        ("explore", "good.jsonl", "--index", "index", "--out", "o", "--set", "explore.sample=2"),
        "did you mean 'samples'?",
    ),
    (("explore", "good.jsonl", "--index", "index", "--out", "o", "--config", "typo.toml"), "typo.toml: unknown key"),
    (("eval", "--index", "index", "--questions", "torn.jsonl", "--out", "o"), "torn.jsonl, line 2"),
    (("warmup", "good.jsonl", "--index", "stale", "--out", "o"), "build the index again"),
    (("weigh", "nowhere.jsonl", "good.jsonl", "--out", "o"), "nowhere.jsonl: no such file"),
    (("weigh", "good.jsonl", "good.jsonl", "--out", "o"), "good.jsonl, line 1"),
    (
        ("weigh", "none.jsonl", "good.jsonl", "--out", "o", "--weighting", "papr"),
        "'weigh.weighting' must be one of",
    ),
    (("weigh", "none.jsonl", "good.jsonl", "--out", "empty"), "empty: a folder is in the way"),
    (("learn", "none.jsonl", "none.jsonl", "--out", "o", "--model", "./empty"), "empty: not a model folder"),
    (("train", "nowhere.toml"), "nowhere.toml: no such file"),
    (("train", "broken.toml"), "broken.toml, line 1, column 9: not valid TOML"),
    (("train", "typo.toml"), "typo.toml: unknown key 'explore.sample'; did you mean 'samples'?"),
    (("view", "nowhere"), "nowhere"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_mistake_is_one_line_that_says_what_is_wrong(
    run: Run, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert sorted(path.name for path in folder.iterdir()) == before, "a refused command leaves nothing behind"


def test_a_dry_run_prints_the_resolved_settings(run: Run, folder: Path) -> None:
    (folder / "recipe.toml").write_text("[explore]\nsamples = 3\n")
    code, out, err = run("train", "recipe.toml", "--set", "loop.iterations=7", "--dry-run")
    assert (code, err) == (0, "")
    assert "samples = 3" in out and "iterations = 7" in out
    assert not (folder / "runs").exists()


def test_a_missing_option_is_bad_usage(run: Run, folder: Path) -> None:
    code, out, err = run("index", "corpus")
    assert (code, out) == (2, "")
    assert "--retriever" in err


def test_a_mistake_is_printed_whatever_the_environment_calls_this_process(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")  # as cluster software sets it for jobs that are not torchrun's
    assert run("search", tmp_path / "absent", "x")[::2] == (
        2,
        f"error: {tmp_path / 'absent'}: not an index folder (no index.json); create it with `exsearch index`\n",
    )


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 1, "error: interrupted; run the same command again to resume\n"),
        (OSError(28, "No space left on device", "/data/o"), 1, "error: /data/o: No space left on device;"),
    ],
)
def test_a_full_disk_and_ctrl_c_end_in_one_line(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("exsearch.retrieval.index.open.open_with_corpus", fail)
    found, _, err = run("search", "index", "x")
    assert found == code
    assert err.splitlines()[-1].startswith(message.rstrip("\n"))


def test_a_tiny_run_of_the_four_stages_passes_files_on(run: Run, folder: Path, tiny_checkpoint: Path) -> None:
    index = (
        "--index",
        "index",
        "--model",
        tiny_checkpoint,
        "--set",
        "model.precision=fp32",
        "--set",
        "agent.turn_tokens=8",
    )
    code, out, _ = run("explore", "good.jsonl", "--out", "t.jsonl", "--set", "explore.samples=2", "--json", *index)
    assert code == 0
    assert json.loads(out) == {"trajectories": 2, "stop_reasons": {"malformed": 2}, "out": "t.jsonl"}
    code, out, _ = run("weigh", "t.jsonl", "good.jsonl", "--out", "w.jsonl", "--json")
    assert code == 0
    assert (json.loads(out)["questions"], json.loads(out)["skipped"]) == (1, 1)
    code, _, err = run("learn", "t.jsonl", "w.jsonl", "--out", "m", "--model", tiny_checkpoint)
    assert code == 1
    assert err.splitlines()[-1].endswith("nothing to learn from")
