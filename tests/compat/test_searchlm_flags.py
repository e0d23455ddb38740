"""Flags that people add to the reference's commands: honoured where they mean something, else refused with advice."""

import argparse
import sys

import pytest

from exsearch.compat.searchlm.finetune import training_config
from exsearch.compat.searchlm.flags import REFUSED, add_training
from exsearch.compat.searchlm.main import main
from exsearch.config import TrainingConfig

NEEDED = ["--model_name_or_path", "model", "--dataset_name_or_path", "data.json", "--output_dir", "out"]


def parsed(*words: str) -> TrainingConfig:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_training(parser)
    return training_config(parser.parse_args([*NEEDED, *words]), {})


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], procedure: str, *words: str) -> str:
    monkeypatch.setenv("PROCEDURE", procedure)
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err


def test_flags_with_a_counterpart_are_honoured() -> None:
    config = parsed("--weight_decay", "0.01", "--gradient_checkpointing", "True", "--lora_rank", "16")
    assert (config.weight_decay, config.gradient_checkpointing, config.lora_rank) == (0.01, True, 16)
    assert parsed("--finetuning_type", "lora").lora_rank == 8
    assert parsed("--save_total_limit", "2", "--finetuning_type", "full").lora_rank == 0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("cosine", ("cosine", 0.1)), ("constant", ("constant", 0.0)), ("constant_with_warmup", ("constant", 0.1))],
)
def test_schedules_are_those_of_transformers(schedule: str, expected: tuple[str, float]) -> None:
    config = parsed("--lr_scheduler_type", schedule, "--warmup_ratio", "0.1")
    assert (config.schedule, config.warmup_ratio) == expected


@pytest.mark.parametrize("flag", REFUSED)
def test_flags_without_a_counterpart_are_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    for words in ([flag, "1"], [f"{flag}=1"]):
        said = refusal(monkeypatch, capsys, "sft", *NEEDED, *words)
        assert said == f"error: {flag}: {REFUSED[flag]}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--finetuning_type", "freeze"], "--finetuning_type freeze: is full or lora"),
        (["--finetuning_type", "full", "--lora_rank", "8"], "--finetuning_type full has no adapter"),
        (["--lr_scheduler_type", "polynomial"], "is one of cosine, linear, constant, constant_with_warmup"),
    ],
)
def test_contradictions_are_named(words: list[str], message: str) -> None:
    with pytest.raises(Exception, match=message):
        parsed(*words)


def test_exploring_without_an_index_is_refused_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("API_SEARCH", raising=False)
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imported {name}"))
    words = ["--model_name_or_path", "m", "--input_file", "f", "--output_dir", "o"]
    said = refusal(monkeypatch, capsys, "inference", *words)
    assert said == "error: name the index: --index FOLDER or URL, or API_SEARCH=http://HOST:PORT\n"
