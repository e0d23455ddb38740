"""`exsearch export`: a run's model with a card, loadable by others, and nothing half-written."""

from pathlib import Path

import msgspec
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from exsearch.agent.chat import ChatFormat
from exsearch.cli.main import exsearch
from exsearch.config import Config, ModelConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_json
from exsearch.em.export import export
from exsearch.evaluation.scores import Figure, Scores, write_scores
from exsearch.runs.folder import RunFolder
from exsearch.runs.records import RunSummary
from tiny_models import save_tiny


@pytest.fixture
def run(tmp_path: Path, chat: ChatFormat) -> Path:
    folder = RunFolder(tmp_path / "run")
    folder.claim(Config(title="A run"))
    for name, share in (("warmup", 0.25), ("iter-1", 0.5)):
        checkpoint = save_tiny(folder.checkpoint(name), chat)
        write_json(checkpoint / "exsearch.json", {"job": "0"})
        write_json(checkpoint / "float32" / "weights.safetensors", "kept for the next training")
        figure = Figure(share, share - 0.1, share + 0.1, 40)
        write_scores(folder.test_eval(name), Scores(name, "feed", {"em": figure, "f1": figure}, {}, {}, []))
    summary = RunSummary("A run", ["closed-book", "warmup", "iter-1"], "iter-1", {}, None, [], {})
    write_json(folder.summary, summary)
    return folder.root


def test_the_best_model_is_copied_with_its_tokenizer_and_a_card(run: Path, tmp_path: Path) -> None:
    assert export(run, tmp_path / "out", None, None) == "iter-1"
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "license: apache-2.0" in card
    assert "| iter-1 | 50.0 [40.0, 60.0] | 50.0 [40.0, 60.0] |" in card
    assert "n = 40 held-out questions" in card and "protocol `feed`" in card
    assert not (tmp_path / "out" / "exsearch.json").exists(), "the trainer's own mark stays behind"
    assert not (tmp_path / "out" / "float32").exists(), "and so do the weights that only training needs"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], return_tensors="pt")["input_ids"]
    assert model(ids).logits.shape[-1] == len(tokenizer)


@pytest.mark.parametrize(
    ("name", "config", "complaint"),
    [
        ("iter-2", Config(title="A run"), r"has no model 'iter-2'; did you mean 'iter-1'\? \(it has warmup, iter-1\)"),
        ("iter-1", Config(model=ModelConfig(path="some/model")), "name the licence of some/model"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    run: Path, tmp_path: Path, name: str, config: Config, complaint: str
) -> None:
    (run / "config.toml").unlink()
    RunFolder(run).claim(config)
    with pytest.raises(UsageError, match=complaint):
        export(run, tmp_path / "out", name, None)
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        export(run, tmp_path / "out", None, None)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_the_folder_may_be_there_empty_behind_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large")
    export(run, tmp_path / "out", None, None)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "large" / "README.md").is_file()


def test_the_verb_says_what_it_did(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exsearch(["export", str(run), "--out", str(tmp_path / "out"), "--model", "warmup", "--json"], standalone_mode=False)
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told == {"model": "warmup", "folder": str(tmp_path / "out"), "hub": None}
