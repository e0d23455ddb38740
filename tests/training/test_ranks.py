"""Training on two ranks: the same steps as on one, whatever is cut over them, and resumable on any number."""

from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from exsearch.config import LearnConfig, ModelConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.start import train
from exsearch.training.trainer import resume_folder

CPU = ModelConfig(device="cpu", precision="fp32")
CONFIG = LearnConfig(epochs=1, batch_size=3, learning_rate=3e-3, save_steps=1, micro_batch_tokens=64)
PROMPT = list(range(40, 70))
EXAMPLES = [
    Example([*PROMPT, 5 + n, *range(80, 90 + n), 2], [0] * 30 + [1] * (12 + n), 35, 0.2 + n / 8) for n in range(7)
]
"""A last step of one example leaves a rank without any."""


def run(base: Path, out: Path, config: LearnConfig, last: int = 0) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}

    def log(step: int, figures: dict[str, float]) -> None:
        steps[step] = figures
        if step == last:
            raise KeyboardInterrupt

    train(Job.of(base, EXAMPLES, out, config, CPU, 11, "test"), log)
    return steps


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(folder / "model.safetensors").items())])


@pytest.fixture(scope="module", params=[pytest.param(0, id="full"), pytest.param(4, id="lora", marks=pytest.mark.slow)])
def alone(request: pytest.FixtureRequest, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    config = msgspec.structs.replace(CONFIG, lora_rank=request.param)
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    steps = run(tiny_checkpoint, folder / "checkpoint", config)
    (folder / "steps.json").write_bytes(msgspec.json.encode(steps))
    return folder


def expectation(alone: Path) -> tuple[LearnConfig, dict[int, dict[str, float]]]:
    config = msgspec.json.decode((alone / "config.json").read_bytes(), type=LearnConfig)
    return config, msgspec.json.decode((alone / "steps.json").read_bytes(), type=dict[int, dict[str, float]])


def cut(sharding: str) -> dict[str, object]:
    return {} if sharding == "none" else {"ranks": 2, "sharding": sharding}


def assert_same_steps(found: dict[int, dict[str, float]], expected: dict[int, dict[str, float]]) -> None:
    for step, figures in expected.items():
        for name in ("loss", "search_loss", "answer_loss", "grad_norm", "learning_rate"):
            assert found[step][name] == pytest.approx(figures[name], rel=1e-4, abs=2e-5)


def assert_same_change(start: Path, expected: Path, found: Path) -> None:
    before, one, two = (weights(folder) for folder in (start, expected, found))
    assert float((two - one).norm() / (one - before).norm()) < 2e-3


def zero(*names: str) -> object:
    """Parameters of a test of DeepSpeed's sharding."""
    return pytest.param(*names, marks=pytest.mark.needs("deepspeed"))


@pytest.mark.parametrize(
    "sharding", [pytest.param("none", marks=pytest.mark.slow), "fsdp", zero("zero2"), zero("zero3")]
)
def test_two_ranks_make_the_steps_of_one(alone: Path, tiny_checkpoint: Path, tmp_path: Path, sharding: str) -> None:
    config, expected = expectation(alone)
    found = run(tiny_checkpoint, tmp_path / "checkpoint", msgspec.structs.replace(config, ranks=2, sharding=sharding))
    assert list(found) == list(expected) == [1, 2, 3]
    assert_same_steps(found, expected)
    assert_same_change(tiny_checkpoint, alone / "checkpoint", tmp_path / "checkpoint")


@pytest.mark.parametrize(
    "sharding", [pytest.param("none", marks=pytest.mark.slow), "fsdp", zero("zero2"), zero("zero3")]
)
def test_ranks_go_on_from_what_was_kept_in_float32_and_keep_it(
    tiny_checkpoint: Path, tmp_path: Path, sharding: str
) -> None:
    bf16 = ModelConfig(device="cpu", precision="bf16")
    for parent, name, rate, more in (
        (tiny_checkpoint, "alone", 1e-5, {}),
        (tmp_path / "alone", "ranks", 1e-15, {"ranks": 2, "sharding": sharding}),
    ):
        config = msgspec.structs.replace(CONFIG, learning_rate=rate, **more)
        train(Job.of(parent, EXAMPLES, tmp_path / name, config, bf16, 11, "test"), lambda step, figures: None)
    began, ended = (load_file(tmp_path / name / "float32" / "weights.safetensors") for name in ("alone", "ranks"))
    assert began.keys() == ended.keys() and all(
        torch.allclose(ended[name], tensor, rtol=0, atol=1e-13) for name, tensor in began.items()
    )


def test_a_run_that_was_stopped_continues_on_another_number_of_ranks(tiny_checkpoint: Path, tmp_path: Path) -> None:
    run(tiny_checkpoint, tmp_path / "whole", CONFIG)
    out = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(tiny_checkpoint, out, CONFIG, last=2)
    steps = run(tiny_checkpoint, out, msgspec.structs.replace(CONFIG, ranks=2, sharding="fsdp"))
    assert list(steps) == [2, 3]
    assert float((weights(out) - weights(tmp_path / "whole")).norm()) < 1e-3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("fsdp", "fsdp", marks=pytest.mark.slow),
        zero("zero2", "zero2"),
        zero("zero2", "zero3"),
        zero("zero3", "zero3"),
        zero("zero3", "none"),
        zero("none", "zero3"),
    ],
)
def test_a_run_that_was_stopped_continues_however_it_is_cut(
    alone: Path, tiny_checkpoint: Path, tmp_path: Path, before: str, after: str
) -> None:
    config, expected = expectation(alone)
    out = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(tiny_checkpoint, out, msgspec.structs.replace(config, **cut(before)), last=2)
    steps = run(tiny_checkpoint, out, msgspec.structs.replace(config, **cut(after)))
    assert list(steps) in ([2, 3], [3])  # several ranks may have come to the second point before they are stopped
    assert_same_steps(steps, {step: expected[step] for step in steps})
    assert_same_change(tiny_checkpoint, alone / "checkpoint", out)


def test_a_mistake_found_by_a_rank_is_said_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, ranks=2, frozen_layers=9)
    with pytest.raises(UsageError, match="frozen_layers = 9"):
        run(tiny_checkpoint, tmp_path / "out", config)


@pytest.mark.slow
def test_what_ends_the_first_rank_is_said_in_one_line_without_the_others(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    resume_folder(tmp_path / "out").touch()  # only the first rank writes there; the second waits for it
    with pytest.raises(UsageError, match=r"out\.resume.*choose another path"):
        run(tiny_checkpoint, tmp_path / "out", msgspec.structs.replace(CONFIG, ranks=2, save_steps=1))
    assert "Traceback" not in capfd.readouterr().err


def test_sharding_on_one_process_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fsdp needs several ranks"):
        run(tiny_checkpoint, tmp_path / "out", msgspec.structs.replace(CONFIG, sharding="fsdp"))


def test_a_lost_rank_ends_the_run_with_an_error(tmp_path: Path, tiny_checkpoint: Path) -> None:
    config = msgspec.structs.replace(CONFIG, ranks=2)
    with pytest.raises(ExSearchError):
        train(
            Job.of(tmp_path / "nothing", EXAMPLES, tmp_path / "out", config, CPU, 1, "test"), lambda step, figures: None
        )
