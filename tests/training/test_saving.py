"""Checkpoints keep what rounding takes away: training goes on from the weights that the last one ended with."""

import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from exsearch.agent.chat import ChatFormat
from exsearch.config import LearnConfig, ModelConfig
from exsearch.core.errors import UsageError
from exsearch.engine.models.checkpoint import load_model
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.saving import FLOAT32, restore_float32, save_checkpoint, start_fingerprint
from exsearch.training.start import train
from exsearch.training.trainer import load_for_training
from model_families import FAMILIES
from tiny_models import save_tiny
from unsealed import forget

BF16 = ModelConfig(device="cpu", precision="bf16")
CONFIG = LearnConfig(epochs=1, batch_size=4, learning_rate=1e-6, warmup_ratio=0.0, schedule="constant")
"""Moves weights of about 0.02 by 2e-6, a tenth of what bfloat16 can distinguish there."""
EXAMPLES = [Example([5 + n, *range(40, 52 + n), 2], [0, 0, 0] + [1] * (11 + n), 9, 0.2 + n / 8) for n in range(8)]


def run(base: Path, out: Path, config: LearnConfig = CONFIG, model: ModelConfig = BF16) -> Path:
    train(Job.of(base, EXAMPLES, out, config, model, 11, "test"), lambda step, figures: None)
    return out


def start(checkpoint: Path, config: LearnConfig = CONFIG) -> dict[str, torch.Tensor]:
    """The weights that training begins with."""
    model, _ = load_for_training(checkpoint, config, 0)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def served(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in load_file(checkpoint / "model.safetensors").items()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    """The share of the weights that are others."""
    changed = [(after[name] != tensor).flatten() for name, tensor in before.items()]
    return float(torch.cat(changed).float().mean())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, chat: ChatFormat) -> Path:
    """A checkpoint in bfloat16."""
    folder = save_tiny(tmp_path_factory.mktemp("float32"), chat)
    model = load_model(folder, torch.bfloat16)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(base, tmp_path_factory.mktemp("trained") / "checkpoint")


def test_the_next_training_begins_with_the_weights_that_the_last_one_ended_with(
    base: Path, trained: Path, tmp_path: Path
) -> None:
    model = load_model(base, torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-6
    ended = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    save_checkpoint(model, base, tmp_path / "out", torch.bfloat16, {}, keep_float32=True)
    found = start(tmp_path / "out")
    assert found.keys() == ended.keys() and all(torch.equal(found[name], ended[name]) for name in ended)
    kept = start(trained)
    assert all(torch.equal(kept[name].bfloat16().float(), tensor) for name, tensor in served(trained).items())


def test_steps_too_small_for_bfloat16_add_up_over_iterations(base: Path, trained: Path, tmp_path: Path) -> None:
    kept = rounded = trained
    for number in range(2, 7):
        kept = run(kept, tmp_path / f"kept-{number}")
        rounded = run(rounded, tmp_path / f"rounded-{number}", msgspec.structs.replace(CONFIG, keep_float32=False))
    one, six = moved(served(base), served(trained)), moved(served(base), served(kept))
    assert one < 0.2 and six > 2 * one
    assert moved(served(base), served(rounded)) < 0.7 * six
    assert not (rounded / FLOAT32).exists()


def test_what_is_kept_belongs_to_what_training_begins_with(trained: Path, tmp_path: Path) -> None:
    without = shutil.copytree(trained, tmp_path / "without", ignore=shutil.ignore_patterns(FLOAT32))
    assert start_fingerprint(trained, True) != start_fingerprint(without, True)
    assert start_fingerprint(trained, False) == start_fingerprint(without, True) == start_fingerprint(without, False)
    out = run(trained, tmp_path / "out")
    run(trained, out)
    with pytest.raises(UsageError, match=r"trained from other inputs or settings \(model = "):
        run(without, out)


def test_nothing_is_kept_where_nothing_was_rounded_or_it_is_not_asked_for(base: Path, tmp_path: Path) -> None:
    exact = run(base, tmp_path / "exact", model=ModelConfig(device="cpu", precision="fp32"))
    rounded = run(base, tmp_path / "rounded", msgspec.structs.replace(CONFIG, keep_float32=False))
    assert not (exact / FLOAT32).exists() and not (rounded / FLOAT32).exists()
    frozen = run(base, tmp_path / "frozen", msgspec.structs.replace(CONFIG, frozen_layers=1))
    names = load_file(frozen / FLOAT32 / "weights.safetensors").keys()
    assert names and all("layers.1." in name or name == "model.norm.weight" for name in names)


def test_adapters_are_merged_into_the_weights_that_were_kept(trained: Path, tmp_path: Path) -> None:
    lora = msgspec.structs.replace(CONFIG, lora_rank=2, learning_rate=1e-15)
    found, expected = start(run(trained, tmp_path / "out", lora)), start(trained)
    assert all(torch.allclose(found[name], tensor, rtol=0, atol=1e-13) for name, tensor in expected.items())


@pytest.mark.parametrize("fault", ["other weights", "torn", "another model"])
def test_kept_weights_that_do_not_belong_to_the_checkpoint_are_refused(
    trained: Path, tmp_path: Path, fault: str
) -> None:
    checkpoint = shutil.copytree(trained, tmp_path / "checkpoint")
    forget(checkpoint)  # as if all of its files were replaced
    file = checkpoint / FLOAT32 / "weights.safetensors"
    if fault == "other weights":
        weights = load_file(checkpoint / "model.safetensors")
        save_file({name: tensor * 2 for name, tensor in weights.items()}, checkpoint / "model.safetensors")
        said = "belongs to other weights than"
    elif fault == "torn":
        file.write_bytes(file.read_bytes()[:-9])
        said = "damaged"
    else:
        known = start_fingerprint(checkpoint, False)
        save_file({"model.norm.weight": torch.ones(5)}, file, metadata={"served": known})
        said = r"model\.norm\.weight does not fit"
    with pytest.raises(UsageError, match=rf"weights\.safetensors: .*{said}.*; remove .*float32 to continue"):
        restore_float32(load_model(checkpoint, torch.float32), checkpoint)
    assert moved(served(checkpoint), start(checkpoint, msgspec.structs.replace(CONFIG, keep_float32=False))) == 0


def test_what_a_family_is_loaded_with_in_float32_is_not_rounded(base: Path, tmp_path: Path) -> None:
    model = FAMILIES["deepseek_v3"].model()
    router = "model.layers.1.mlp.gate.e_score_correction_bias"
    bias = model.get_buffer(router)
    bias.copy_(torch.linspace(0.1, 0.2, len(bias)))
    assert not torch.equal(bias.bfloat16().float(), bias), "else there would be nothing to lose"
    before = bias.clone()
    save_checkpoint(model, base, tmp_path / "out", torch.bfloat16, {}, keep_float32=False)
    found = load_model(tmp_path / "out", torch.bfloat16)
    assert torch.equal(found.get_buffer(router), before)
    assert found.lm_head.weight.dtype == torch.bfloat16
