"""The trainer: resumable to the last bit, LoRA or not, and in an order that only the seed decides."""

import json
import math
import re
import shutil
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exsearch.agent.chat import ChatFormat
from exsearch.config import LearnConfig, ModelConfig, TrainingConfig, WarmupConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.hardware.memory import is_out_of_memory
from exsearch.training.batches import batch_of_step, micro_batches, steps_per_epoch
from exsearch.training.example import Example
from exsearch.training.inputs import Inputs
from exsearch.training.job import Job, read_job, write_job
from exsearch.training.learners.learner import TorchLearner, restore_torch, torch_state
from exsearch.training.packing.tree import Tree
from exsearch.training.resume import load_resume_point, save_resume_point
from exsearch.training.start import train
from exsearch.training.trainer import learning_rate
from exsearch.training.validation import hold_out

CPU = ModelConfig(device="cpu", precision="fp32")
CONFIG = LearnConfig(epochs=2, batch_size=3, learning_rate=3e-3, save_steps=2, micro_batch_tokens=64)
EXAMPLES = [Example([5 + n, *range(40, 52 + n), 2], [0, 0, 0] + [1] * (11 + n), 9, 0.2 + n / 8) for n in range(8)]


FITTING = msgspec.structs.replace(CONFIG, epochs=12, learning_rate=2e-2, validation_share=0.25)
"""Learns the few examples by heart, so that others become less likely."""
OF_QUESTIONS = [
    Example([5, *range(40 + 20 * n, 50 + 20 * n), 2], [0, 0] + [1] * 10, 9, 0.2 + n / 8, question_id=f"q{n // 2}")
    for n in range(8)
]


class KilledError(Exception):
    """Stands for the end of the process."""


class Log:
    """Collects what the trainer logs; dies when it is told the figures of step `last`."""

    def __init__(self, last: int = 0) -> None:
        self.last, self.steps = last, dict[int, dict[str, float]]()
        self.continued_from = -1

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        if step == self.last:
            raise KilledError
        self.steps[step] = {name: value for name, value in figures.items() if name != "tokens_per_second"}

    def rewind(self, step: int) -> None:
        self.continued_from = step


def run(
    base: Path, out: Path, config: TrainingConfig = CONFIG, last: int = 0, examples: list[Example] | None = None
) -> Log:
    log = Log(last)
    train(Job.of(base, EXAMPLES if examples is None else examples, out, config, CPU, 11, "test"), log, log.rewind)
    return log


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    out = tmp_path_factory.mktemp("whole") / "checkpoint"
    return out, run(tiny_checkpoint, out)


def test_training_makes_the_examples_likelier(uninterrupted: tuple[Path, Log]) -> None:
    steps = uninterrupted[1].steps
    assert list(steps) == [1, 2, 3, 4, 5, 6]
    assert steps[6]["loss"] < steps[1]["loss"] - 0.05
    assert all(figures["grad_norm"] > 0 for figures in steps.values())


@pytest.mark.parametrize(("killed_at", "continues_from"), [(2, 0), (3, 2), (6, 4)])
def test_a_killed_run_continues_to_the_same_weights_bit_for_bit(
    tiny_checkpoint: Path, uninterrupted: tuple[Path, Log], tmp_path: Path, killed_at: int, continues_from: int
) -> None:
    whole, log = uninterrupted
    out = tmp_path / "checkpoint"
    with pytest.raises(KilledError):
        run(tiny_checkpoint, out, last=killed_at)
    assert not out.exists()
    continued = run(tiny_checkpoint, out)
    assert continued.continued_from == continues_from
    assert continued.steps == {step: figures for step, figures in log.steps.items() if step > continues_from}
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"], "no resume point is left"


@pytest.mark.parametrize("content", [b"", b"\x10", b"not a safetensors file"])
def test_a_torn_resume_point_is_skipped(
    tiny_checkpoint: Path, uninterrupted: tuple[Path, Log], tmp_path: Path, content: bytes
) -> None:
    out = tmp_path / "checkpoint"
    with pytest.raises(KilledError):
        run(tiny_checkpoint, out, last=5)
    [points] = (tmp_path / "checkpoint.resume").iterdir()
    [point] = points.iterdir()
    assert point.name == "step-00000004.safetensors"
    (points / "step-00000005.safetensors").write_bytes(content or point.read_bytes()[:-9])
    assert run(tiny_checkpoint, out).continued_from == 4
    assert (out / "model.safetensors").read_bytes() == (uninterrupted[0] / "model.safetensors").read_bytes()


def test_a_finished_checkpoint_is_kept_and_one_of_other_inputs_refused(
    tiny_checkpoint: Path, uninterrupted: tuple[Path, Log]
) -> None:
    out, _ = uninterrupted
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert run(tiny_checkpoint, out).steps == {}
    for config, examples in ((msgspec.structs.replace(CONFIG, epochs=3), EXAMPLES), (CONFIG, EXAMPLES[1:])):
        with pytest.raises(UsageError, match="other inputs or settings"):
            run(tiny_checkpoint, out, config, examples=examples)
    assert (out / "model.safetensors").stat().st_mtime_ns == before


def test_what_differs_from_a_finished_checkpoint_is_named(
    tiny_checkpoint: Path, uninterrupted: tuple[Path, Log], tmp_path: Path
) -> None:
    out = shutil.copytree(uninterrupted[0], tmp_path / "checkpoint")
    with pytest.raises(UsageError, match=r"\(learning_rate = 0\.003 there, 0\.1 here, kl = 0\.0 there, 1\.0 here\)"):
        run(tiny_checkpoint, out, msgspec.structs.replace(CONFIG, learning_rate=0.1, kl=1.0))
    with pytest.raises(UsageError, match=r"\(examples = \w+ there, \w+ here\)"):
        run(tiny_checkpoint, out, examples=EXAMPLES[1:])
    job = json.loads((out / "exsearch.json").read_text())["job"]
    (out / "exsearch.json").write_text(json.dumps({"job": job}))  # of an earlier version
    run(tiny_checkpoint, out, msgspec.structs.replace(CONFIG, save_steps=9))
    with pytest.raises(UsageError, match="other inputs or settings; choose another folder"):
        run(tiny_checkpoint, out, msgspec.structs.replace(CONFIG, kl=1.0))


def test_settings_as_earlier_versions_had_them_have_the_fingerprint_that_those_gave(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exsearch.training.inputs.start_fingerprint", lambda *words: "m")

    def job(config: TrainingConfig) -> Job:
        return Job.of(tiny_checkpoint, [], tmp_path / "out", config, ModelConfig(precision="fp32"), 7, "test")

    earlier = TrainingConfig(epochs=3, learning_rate=2e-4, denominator="batch", max_grad_norm=1.0, keep_float32=False)
    assert Inputs.of(job(earlier)).job == "7c14a31bb7ec80a6"
    now = TrainingConfig(epochs=3, learning_rate=2e-4)
    assert Inputs.of(job(now)).job != "7c14a31bb7ec80a6"
    without = dict(Inputs.of(job(earlier)).parts)
    del without["denominator"], without["keep_float32"]
    (tmp_path / "exsearch.json").write_text(json.dumps({"job": "7c14a31bb7ec80a6", "inputs": without}))
    Inputs.of(job(earlier)).require_same(tmp_path)
    with pytest.raises(
        UsageError, match=r"\(denominator = batch there, expected here, max_grad_norm = 1.0 there, 10.0 here, keep"
    ):
        Inputs.of(job(now)).require_same(tmp_path)


def test_where_the_validation_loss_is_taken_belongs_to_the_inputs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    validated = msgspec.structs.replace(CONFIG, validation_share=0.25, epochs=1)
    run(tiny_checkpoint, tmp_path / "checkpoint", validated, examples=OF_QUESTIONS)
    run(tiny_checkpoint, tmp_path / "checkpoint", validated, examples=OF_QUESTIONS)
    with pytest.raises(UsageError, match=r"\(save_steps = 2 there, 3 here\)"):
        changed = msgspec.structs.replace(validated, save_steps=3)
        run(tiny_checkpoint, tmp_path / "checkpoint", changed, examples=OF_QUESTIONS)


def test_the_file_of_deepspeed_counts_by_its_content(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file, moved = tmp_path / "zero.json", tmp_path / "moved.json"
    file.write_text('{"zero_optimization": {"stage": 2}}')
    moved.write_text('{"zero_optimization": {"stage": 2, "overlap_comm": "auto"}}')
    configs = [msgspec.structs.replace(CONFIG, deepspeed=str(path)) for path in (file, moved)]
    jobs = [Job.of(tiny_checkpoint, EXAMPLES, tmp_path / "out", config, CPU, 0, "test") for config in configs]
    first, second = map(Inputs.of, jobs)
    assert first.job == second.job != first.earlier != second.earlier
    file.write_text('{"zero_optimization": {"stage": 3}}')
    assert Inputs.of(jobs[0]).job != first.job


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room on the GPU"), MemoryError()])
def test_out_of_memory_names_what_to_lower_and_the_run_goes_on_with_it(
    tiny_checkpoint: Path,
    uninterrupted: tuple[Path, Log],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    out, accumulate = tmp_path / "checkpoint", TorchLearner.accumulate
    left = [3 * len(EXAMPLES) // 4]

    def full(learner: TorchLearner, tree: Tree, factor: float, last: bool) -> torch.Tensor:
        left[0] -= 1
        if not left[0]:
            raise error
        return accumulate(learner, tree, factor, last)

    with monkeypatch.context() as failing:
        failing.setattr(TorchLearner, "accumulate", full)
        with pytest.raises(ExSearchError, match="test: out of memory") as refused:
            run(tiny_checkpoint, out)
    [option] = re.findall(r"--set learn\.micro_batch_tokens=(\d+) or --set", str(refused.value))
    assert int(option) == CONFIG.micro_batch_tokens // 2
    log = run(tiny_checkpoint, out, msgspec.structs.replace(CONFIG, micro_batch_tokens=int(option)))
    assert log.continued_from > 0
    for name, tensor in weights(uninterrupted[0]).items():
        assert torch.allclose(weights(out)[name], tensor, atol=1e-5), name


def test_a_processor_without_memory_is_known_by_its_error() -> None:
    with pytest.raises(RuntimeError) as full:
        torch.empty(10**15)
    assert is_out_of_memory(full.value) and not is_out_of_memory(RuntimeError("another"))


def test_a_resume_point_of_other_inputs_is_not_continued(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tiny_checkpoint, tmp_path / "checkpoint", last=5)
    other = msgspec.structs.replace(CONFIG, learning_rate=1e-3)
    assert run(tiny_checkpoint, tmp_path / "checkpoint", other).continued_from == 0


@pytest.mark.needs("bitsandbytes")
def test_adapters_on_weights_of_4_bits_are_merged_into_those_of_the_start(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=6, lora_rank=4, quantise="4bit")
    steps = run(tiny_checkpoint, tmp_path / "out", config).steps
    assert steps[max(steps)]["loss"] < steps[1]["loss"] - 0.05
    before, after = weights(tiny_checkpoint), weights(tmp_path / "out")
    assert {name: tensor.dtype for name, tensor in after.items()} == dict.fromkeys(before, torch.float32)
    moved = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    assert moved and all("proj" in name for name in moved), "what has no adapter keeps its weights"
    apart = [torch.linalg.matrix_rank(after[name] - before[name], atol=1e-5) for name in moved]
    assert max(apart) <= 4, "the rounding to 4 bits has come into the checkpoint"


@pytest.mark.needs("bitsandbytes")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "needs lora_rank"),
        ({"lora_rank": 4, "ranks": 2, "sharding": "fsdp"}, "cannot be combined with sharding = fsdp"),
    ],
)
def test_4_bits_that_cannot_be_trained_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        run(tiny_checkpoint, tmp_path / "out", msgspec.structs.replace(CONFIG, quantise="4bit", **settings))


def test_frozen_layers_keep_their_weights(tiny_checkpoint: Path, tmp_path: Path) -> None:
    run(tiny_checkpoint, tmp_path / "out", msgspec.structs.replace(CONFIG, frozen_layers=1))
    before, after = weights(tiny_checkpoint), weights(tmp_path / "out")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "layers.1." in name or name == "model.norm.weight"}
    with pytest.raises(UsageError, match="the model has 2"):
        run(tiny_checkpoint, tmp_path / "none", msgspec.structs.replace(CONFIG, frozen_layers=2))


def test_a_checkpoint_half_written_by_a_killed_run_is_replaced(
    tiny_checkpoint: Path, uninterrupted: tuple[Path, Log], tmp_path: Path
) -> None:
    (tmp_path / ".checkpoint.partial").mkdir()
    (tmp_path / ".checkpoint.partial" / "model-00001-of-00002.safetensors").write_bytes(b"half")
    run(tiny_checkpoint, tmp_path / "checkpoint")
    assert {p.name for p in (tmp_path / "checkpoint").iterdir()} == {p.name for p in uninterrupted[0].iterdir()}


def test_a_lora_run_leaves_an_ordinary_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint"
    with pytest.raises(KilledError):
        run(tiny_checkpoint, out, msgspec.structs.replace(CONFIG, lora_rank=4), last=4)
    resumed = run(tiny_checkpoint, out, msgspec.structs.replace(CONFIG, lora_rank=4))
    whole = run(tiny_checkpoint, tmp_path / "whole", msgspec.structs.replace(CONFIG, lora_rank=4))
    assert resumed.continued_from == 2
    before, after = weights(tiny_checkpoint), weights(out)
    assert before.keys() == after.keys()
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)
    assert not list(out.glob("adapter*"))
    assert whole.steps[6]["loss"] < whole.steps[1]["loss"]
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 49152)


def test_the_result_is_a_checkpoint_with_its_tokenizer(uninterrupted: tuple[Path, Log], chat: ChatFormat) -> None:
    again = ChatFormat.load(uninterrupted[0])
    assert (again.first_prompt("?"), again.turn_ids("!")) == (chat.first_prompt("?"), chat.turn_ids("!"))
    assert json.loads((uninterrupted[0] / "config.json").read_text())["dtype"] == "float32"


def test_weights_are_saved_in_the_precision_of_the_forward_pass(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=1, batch_size=8)
    log = Log()
    train(
        Job.of(
            tiny_checkpoint, EXAMPLES, tmp_path / "out", config, ModelConfig(device="cpu", precision="bf16"), 1, "t"
        ),
        log,
    )
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.bfloat16}


def test_nothing_to_learn_from_is_an_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExSearchError, match="nothing to learn from"):
        run(tiny_checkpoint, tmp_path / "out", examples=[])


rates = st.builds(LearnConfig, learning_rate=st.floats(1e-6, 1), warmup_ratio=st.floats(0, 1))


@given(rates, st.integers(1, 500))
def test_the_learning_rate_rises_to_its_peak_and_falls(config: TrainingConfig, total: int) -> None:
    found = [learning_rate(config, step, total) for step in range(total)]
    assert all(0 < rate <= config.learning_rate * (1 + 1e-9) for rate in found)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert peak <= math.ceil(config.warmup_ratio * total)


def test_the_learning_rate_without_warm_up_is_half_a_cosine() -> None:
    config = LearnConfig(learning_rate=2.0, warmup_ratio=0.0)
    found = [learning_rate(config, step, 4) for step in range(4)]
    assert found == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)])


def test_the_learning_rate_rises_over_the_warm_up_share() -> None:
    config = LearnConfig(learning_rate=1.0, warmup_ratio=0.3)
    assert [learning_rate(config, step, 10) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


numbered = st.integers(1, 40).map(lambda count: [Example([n, n], [0, 1], 1) for n in range(count)])


@given(numbered, st.integers(1, 12), st.integers(0, 2**32))
def test_each_epoch_sees_each_example_once(examples: list[Example], batch_size: int, seed: int) -> None:
    steps = steps_per_epoch(len(examples), batch_size)
    for epoch in range(2):
        batches = [batch_of_step(examples, epoch * steps + step, batch_size, seed) for step in range(steps)]
        seen = [example.token_ids[0] for batch in batches for example in batch]
        assert Counter(seen) == Counter(range(len(examples)))
        assert all(1 <= len(batch) <= batch_size for batch in batches)
        assert batches == [batch_of_step(examples, epoch * steps + step, batch_size, seed) for step in range(steps)]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    examples = [Example([n, n], [0, 1], 1) for n in range(20)]
    orders = [batch_of_step(examples, epoch, 20, seed) for epoch in (0, 1) for seed in (1, 2)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


@given(st.lists(st.integers(2, 50), min_size=1, max_size=15), st.integers(1, 200), st.integers(1, 3))
def test_micro_batches_hold_every_example_once_within_the_limit(lengths: list[int], most: int, ranks: int) -> None:
    batch = [Example([n] * length, [0] + [1] * (length - 1), 1) for n, length in enumerate(lengths)]
    cut = micro_batches(batch, most, ranks)
    assert sorted(e.token_ids[0] for part in cut for e in part) == list(range(len(lengths)))
    assert all(len(part) == 1 or sum(len(e.token_ids) for e in part) <= most for part in cut)


def test_what_micro_batches_share_counts_once() -> None:
    question = list(range(100))
    batch = [Example([*question, 200 + n], [0] * 100 + [1], 100) for n in range(10)]
    assert micro_batches(batch, 110) == [batch]
    assert len(micro_batches(batch, 109)) == 2
    assert [len(part) for part in micro_batches(batch, 110, 2)] == [5, 5]


def loss_a_token(folder: Path, examples: list[Example]) -> float:
    """The weighted mean loss of a checkpoint, token by token."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total = mass = 0.0
    for example in examples:
        with torch.no_grad():
            logprobs = model(torch.tensor([example.token_ids])).logits[0].log_softmax(dim=1)
        for position, token in enumerate(example.token_ids):
            if position and example.loss_mask[position]:
                total -= example.weight * float(logprobs[position - 1, token])
                mass += example.weight
    return total / mass


def test_the_checkpoint_has_the_weights_of_the_lowest_validation_loss(tiny_checkpoint: Path, tmp_path: Path) -> None:
    steps = run(tiny_checkpoint, tmp_path / "out", FITTING, examples=OF_QUESTIONS).steps
    losses = {step: figures["validation_loss"] for step, figures in steps.items() if "validation_loss" in figures}
    assert list(losses) == list(range(2, max(steps) + 1, 2))
    best = min(losses, key=lambda step: losses[step])
    assert best < max(steps), "it never became worse, so nothing was chosen"
    _, held = hold_out(OF_QUESTIONS, FITTING.validation_share, 11)
    assert loss_a_token(tmp_path / "out", held) == pytest.approx(losses[best], abs=2e-5)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_killed_run_with_validation_keeps_the_same_weights(
    tiny_checkpoint: Path, tmp_path: Path, lora_rank: int
) -> None:
    config = msgspec.structs.replace(FITTING, lora_rank=lora_rank)
    whole = run(tiny_checkpoint, tmp_path / "whole", config, examples=OF_QUESTIONS)
    with pytest.raises(KilledError):
        run(tiny_checkpoint, tmp_path / "out", config, last=15, examples=OF_QUESTIONS)
    log = run(tiny_checkpoint, tmp_path / "out", config, examples=OF_QUESTIONS)
    assert log.continued_from == 14
    assert log.steps == {step: figures for step, figures in whole.steps.items() if step > 14}
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(tensor, weights(tmp_path / "out")[name])


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_examples_of_a_question_are_held_out_together(questions: list[int], share: float, seed: int) -> None:
    examples = [Example([n], [1], 0, question_id=str(question)) for n, question in enumerate(questions)]
    count = len(set(questions))
    if not 0 < round(share * count) < count:
        with pytest.raises(UsageError, match="validation_share"):
            hold_out(examples, share, seed)
        return
    learned, held = hold_out(examples, share, seed)
    assert sorted(e.token_ids[0] for e in learned + held) == list(range(len(questions)))
    assert not {e.question_id for e in learned} & {e.question_id for e in held}
    assert len({e.question_id for e in held}) == round(share * count)


def test_a_run_with_a_parameter_that_no_gradient_reaches_is_continued(tmp_path: Path) -> None:
    def state() -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
        parameters = {name: torch.nn.Parameter(torch.ones(2)) for name in ("used", "unused")}
        return parameters, torch.optim.AdamW(parameters.values(), lr=0.1)

    parameters, optimiser = state()
    parameters["used"].sum().backward()
    optimiser.step()
    optimiser.zero_grad()
    save_resume_point(tmp_path, 1, torch_state(parameters, optimiser))
    others, fresh = state()
    assert load_resume_point(tmp_path, others, partial(restore_torch, others, fresh)) == 1
    for one, other in ((parameters, optimiser), (others, fresh)):
        one["used"].sum().backward()
        other.step()
    assert torch.equal(parameters["used"], others["used"]) and others["unused"].tolist() == [1, 1]


def test_a_resume_point_of_another_model_is_refused_by_name_and_nothing_is_restored(tmp_path: Path) -> None:
    weights = {name: torch.nn.Parameter(torch.ones(2)) for name in ("a", "b")}
    save_resume_point(tmp_path, 3, torch_state(weights, torch.optim.AdamW(weights.values())))
    others = {name: torch.nn.Parameter(torch.zeros(2)) for name in ("a", "c")}
    with pytest.raises(UsageError, match=r"step-00000003\.safetensors: a resume point of another model \(weight/b"):
        load_resume_point(tmp_path, others, partial(restore_torch, others, torch.optim.AdamW(others.values())))
    assert others["a"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("config", "section"), [(LearnConfig(), "learn."), (WarmupConfig(), "warmup."), (CONFIG, "learn.")]
)
def test_a_job_comes_to_the_ranks_as_it_was_sent(tmp_path: Path, config: TrainingConfig, section: str) -> None:
    job = Job.of(tmp_path / "base", EXAMPLES, tmp_path / "out", config, CPU, 3, "test")
    assert (job.section, type(job.config)) == (section, TrainingConfig)
    with tempfile.TemporaryFile() as file:
        write_job(file, job)
        assert read_job(file.fileno()) == job
