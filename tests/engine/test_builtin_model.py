"""Models by name: the embedded one is converted once and whole; what is no model is refused by what is wrong."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from exsearch.agent.chat import ChatFormat
from exsearch.core.errors import UsageError
from exsearch.engine.base import Sampling
from exsearch.engine.batch import generate
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.models import builtin as builtin_models
from exsearch.engine.models.builtin import BUILTIN_MODELS, gguf_file, model_fingerprint, resolve_model

NAME = "builtin:smollm2-135m"
RECORDED = {
    "What is the capital of France?": "The capital of France is Paris.",
    "Write the numbers from one to five.": "1. 1\n2. 2\n3.",
}
"""Greedy answers of the GGUF file as transformers loads it, in float32; the slow test below creates them again."""


def answers(model_folder: Path, chat: ChatFormat, **load: str) -> dict[str, str]:
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32, **load)
    engine = HFEngine(model, "x")
    prompts = [chat.first_prompt(text) for text in RECORDED]
    said = generate(engine, prompts, Sampling(12, [chat.stop_id], temperature=0.0), [0] * len(prompts))
    return {text: chat.decode(completion.token_ids) for text, completion in zip(RECORDED, said, strict=True)}


def test_the_embedded_model_answers_as_recorded(builtin: Path, chat: ChatFormat) -> None:
    assert answers(builtin, chat) == RECORDED


@pytest.mark.slow
def test_the_recorded_answers_are_those_of_the_quantised_file_itself(chat: ChatFormat) -> None:
    source = gguf_file(*BUILTIN_MODELS[NAME])
    assert answers(source.parent, chat, gguf_file=source.name) == RECORDED


def test_the_embedded_model_can_learn_to_stop(chat: ChatFormat) -> None:
    tokenizer = chat.tokenizer
    assert tokenizer.eos_token_id == chat.stop_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_converted_folder_is_an_ordinary_checkpoint(builtin: Path) -> None:
    config = json.loads((builtin / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    assert config["pad_token_id"] == 0
    assert resolve_model(str(builtin)) == builtin


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace the conversion by a quick one; return the list of the folders that it is told to write."""
    calls: list[Path] = []

    def convert(source: Path, target: Path) -> None:
        assert source.is_file()
        calls.append(target)
        target.mkdir()
        (target / "model.safetensors").write_text("whole")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(builtin_models, "convert_gguf", convert)
    return calls


def test_the_conversion_happens_once(tmp_path: Path, conversions: list[Path]) -> None:
    folder = resolve_model(NAME)
    assert folder == resolve_model(NAME)
    assert folder.is_relative_to(tmp_path / "exsearch")
    assert len(conversions) == 1


@pytest.mark.parametrize("leftover", ["half-written target", "partial sibling"])
def test_a_half_written_conversion_is_made_again(leftover: str, conversions: list[Path]) -> None:
    folder = builtin_models.cache_folder() / "models" / f"smollm2-135m-v{builtin_models.CONVERSION}"
    torn = folder if leftover == "half-written target" else folder.with_name(f".{folder.name}.partial")
    torn.mkdir(parents=True)
    (torn / "model.safetensors").write_text("ha")
    (torn / "stray").write_text("")
    assert resolve_model(NAME) == folder
    assert len(conversions) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["complete.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_text() == "whole"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_failed_conversion_leaves_nothing(conversions: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        target.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(builtin_models, "convert_gguf", fail)
    with pytest.raises(OSError, match="disk full"):
        resolve_model(NAME)
    assert list((builtin_models.cache_folder() / "models").iterdir()) == []


def test_an_unknown_embedded_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'builtin:smollm2-135m'"):
        resolve_model("builtin:smolm2-135")


@pytest.mark.parametrize("name", ["./nowhere", "/no/where/at/all", "nowhere", "smollm2-135m", "../a/b/c"])
def test_a_path_that_is_not_there_is_no_model(name: str) -> None:
    with pytest.raises(UsageError, match="no such model folder"):
        resolve_model(name)


def test_a_folder_without_the_files_of_a_model_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    for name, missing in (
        ("config.json", r"no config\.json"),
        ("model.safetensors", "no .* weights"),
        ("tokenizer_config.json", r"no tokenizer_config\.json"),
    ):
        with pytest.raises(UsageError, match=missing):
            resolve_model(str(tmp_path))
        (tmp_path / name).write_text("{}")
    assert resolve_model(str(tmp_path)) == tmp_path


def test_the_fingerprint_follows_the_weights_and_not_the_place(tmp_path: Path) -> None:
    def write(folder: Path, weights: bytes) -> str:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"hidden_size": 32, "_name_or_path": str(folder)}))
        (folder / "model.safetensors").write_bytes(weights)
        return model_fingerprint(folder)

    weights = bytes(range(256)) * 1000
    first = write(tmp_path / "a", weights)
    assert first == write(tmp_path / "b", weights)
    assert first != write(tmp_path / "b", weights[:-1] + b"x")
    assert first != write(tmp_path / "b", weights + b"x")
