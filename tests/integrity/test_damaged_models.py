"""A damaged checkpoint is refused in one line, whoever saved it; its weights are never silently other ones."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import summary, try_all

from exsearch.agent.chat import ChatFormat
from exsearch.config import ModelConfig
from exsearch.core.checksums import CHECKSUMS, write_checksums
from exsearch.core.errors import UsageError
from exsearch.engine.base import Sampling
from exsearch.engine.batch import generate
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.models.builtin import resolve_model
from exsearch.engine.spec import EngineSpec
from tiny_models import save_tiny

IGNORED = ("exsearch.json",)
"""Says what a checkpoint was trained from; loading does not read it."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, chat: ChatFormat) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "model"
    save_tiny(folder, chat, spread=0.3)
    return folder


def use(folder: Path) -> Any:
    """Load it as exploring does; return what it says."""
    os.environ["XDG_CACHE_HOME"] = str(folder.parent / "cache")
    resolved = resolve_model(str(folder))
    chat = ChatFormat.load(resolved)
    engine = HFEngine.load(EngineSpec(resolved, ModelConfig(device="cpu", precision="fp32"), 256, 2))
    [said] = generate(engine, [chat.first_prompt("Who?")], Sampling(4, [], temperature=0.0), [0])
    return said.token_ids, [round(value, 3) for value in said.logprobs]


@pytest.mark.slow
def test_a_checkpoint_with_checksums_is_refused_by_the_damaged_file(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(model, own)
    write_checksums(own)
    outcomes = try_all(own, use, flips=6, skipped=IGNORED)
    assert not [outcome for outcome in outcomes if outcome.is_fault], summary(outcomes)
    assert all(outcome.kind in ("refused", "harmless", "verified") for outcome in outcomes)


def test_a_damaged_file_of_a_checkpoint_is_named_before_anything_is_loaded(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(model, own)
    write_checksums(own)
    assert resolve_model(str(own)) == own
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        content = (own / name).read_bytes()
        (own / name).write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        with pytest.raises(UsageError, match=rf"damaged \({name}: its content has changed\); restore it"):
            resolve_model(str(own))
        (own / name).write_bytes(content)


GARBLED: dict[str, tuple[str, Callable[[str], str]]] = {
    "a list as configuration": ("config.json", lambda text: "[]"),
    "an architecture without a size": ("config.json", lambda text: text.replace('"hidden_size": ', '"hidden_sise": ')),
    "a size that is text": ("config.json", lambda text: re.sub(r'"hidden_size": \d+', '"hidden_size": "many"', text)),
    "a size of zero": (
        "config.json",
        lambda text: re.sub(r'"num_attention_heads": \d+', '"num_attention_heads": 0', text),
    ),
    "another number of layers": (
        "config.json",
        lambda text: re.sub(r'"num_hidden_layers": \d+', '"num_hidden_layers": 9', text),
    ),
    "half a tokenizer": ("tokenizer.json", lambda text: text[: len(text) // 2]),
    "a tokenizer of nothing": ("tokenizer.json", lambda text: "{}"),
    "a tokenizer of an unknown kind": ("tokenizer.json", lambda text: text.replace('"type": "BPE"', '"type": "BQE"')),
    "settings of the tokenizer that are none": ("tokenizer_config.json", lambda text: "7"),
    "a template that divides by zero": ("chat_template.jinja", lambda text: "{{ 1 // 0 }}" + text),
    "a template that calls nothing": ("chat_template.jinja", lambda text: "{{ nothing.at.all() }}" + text),
    "a template with half a block": ("chat_template.jinja", lambda text: text + "{% if %}"),
    "stop tokens that are text": ("generation_config.json", lambda text: '{"eos_token_id": "end"}'),
}


@pytest.mark.parametrize("garbled", GARBLED)
def test_a_checkpoint_that_libraries_stumble_over_is_refused_in_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, garbled: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(model, tmp_path / "model")
    name, change = GARBLED[garbled]
    file = tmp_path / "model" / name
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    file.write_text(change(before), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != before
    with pytest.raises(UsageError) as refused:
        use(tmp_path / "model")
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_checkpoint_of_others_is_refused_or_gives_what_its_files_say(model: Path) -> None:
    """Without checksums a flipped weight cannot be seen, but nothing ends in a traceback or a signal."""
    assert not (model / CHECKSUMS).exists()
    outcomes = try_all(model, use, flips=6)
    assert not [outcome for outcome in outcomes if outcome.kind in ("traceback", "signal", "hung")], summary(outcomes)
