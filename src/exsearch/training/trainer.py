"""One trainer for warm-up (weight 1) and the M-step (weight w_k): AdamW on the weighted loss, resumable.

A resume point has weights, optimiser state and the step. Data order and learning rate are functions of the step, so a
run that was interrupted and resumed ends with the same weights as one that was not.
"""

import copy
import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import torch
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig, PreTrainedModel

from exsearch.config import ModelConfig, TrainingConfig
from exsearch.core.atomic import behind_link, is_taken, remove
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.messages import logger
from exsearch.core.progress import progress
from exsearch.core.seeds import derive_seed
from exsearch.engine.models.checkpoint import load_config, load_model
from exsearch.engine.models.layers import decoder_layers
from exsearch.engine.models.limits import made_for, steady_limit
from exsearch.engine.models.merging import merge_checked
from exsearch.engine.models.noise import without_noise
from exsearch.engine.models.probe import require_path
from exsearch.hardware.devices import pick_device, pick_dtype
from exsearch.hardware.memory import free_at_once
from exsearch.hardware.onednn import use_onednn
from exsearch.processes import compute
from exsearch.training.batches import batch_of_step, micro_batches, packed_of_rank, steps_per_epoch
from exsearch.training.example import Example
from exsearch.training.inputs import Inputs
from exsearch.training.job import Job
from exsearch.training.learners.adapters import add_lora
from exsearch.training.learners.learner import Learner, TorchLearner
from exsearch.training.loss import (
    LossSums,
    Packing,
    Reference,
    WeightedLoss,
    expected_denominator,
    normalised,
    own_denominator,
)
from exsearch.training.packing.ways import trainer_verdict
from exsearch.training.ranks.launch import explained_if_out_of_memory
from exsearch.training.ranks.ranks import Ranks, joined_ranks
from exsearch.training.resume import load_resume_point, save_resume_point
from exsearch.training.saving import restore_float32, save_checkpoint
from exsearch.training.validation import Split, hold_out, keep_if_best, read_best, validation_loss

if TYPE_CHECKING:
    from peft import LoraModel

BEST = "best.safetensors"
"""File among the resume points: the weights with the lowest validation loss."""
LogStep = Callable[[int, dict[str, float]], None]
OnRanks = Callable[[Job, LogStep, Callable[[int], None]], None]


def train_job(job: Job, log: LogStep, rewind: Callable[[int], None], on_ranks: OnRanks | None = None) -> None:
    """Run a job in this process, as its only rank or one of several; with `on_ranks`, pass the job to that instead.

    An output finished from the same inputs is not changed; raises UsageError if it is from other inputs.
    """
    config = job.config
    refuse_adapter(job.model)
    if not job.examples:
        raise ExSearchError(f"{job.label}: nothing to learn from")
    split = hold_out(job.examples, config.validation_share, job.seed)
    if config.lora_rank and config.frozen_layers:
        raise UsageError("lora_rank and frozen_layers exclude each other: an adapter would change the frozen layers")
    inputs = Inputs.of(job)
    output = behind_link(job.output)
    if is_taken(output):
        inputs.require_same(output)
        return
    require_length(job.base, max(len(example.token_ids) for example in job.examples))
    if on_ranks is not None:
        on_ranks(job, log, rewind)
        return
    compute.run(lambda: _train_here(job, split, inputs, log, rewind))


def _train_here(job: Job, split: Split, inputs: Inputs, log: LogStep, rewind: Callable[[int], None]) -> None:
    """Train in this process, as the only rank or one of several."""
    base, config, label, dtype = job.base, job.config, job.label, pick_dtype(job.model)
    output = behind_link(job.output)
    with explained_if_out_of_memory(job), joined_ranks(pick_device(job.model)) as ranks:
        model, adapted = load_for_training(base, config, job.seed, dtype)
        torch.nn.Module.to(model, ranks.device)
        verdict = trainer_verdict(model, base, config, ranks.device)
        packing = cast(Packing, require_path(verdict, "the trainer"))
        reference = reference_of(model, adapted, config, dtype) if config.kl else None
        learner = make_learner(WeightedLoss(model, config, reference, packing), config, ranks, dtype)
        if torch.distributed.is_initialized() and ranks.first:
            logger.info(f"  {label}: {learner.description}")
        points = inputs.resume_points(resume_folder(output))
        _steps(learner, job, split, ranks, points, log, rewind)
        must_gather = torch.distributed.is_initialized() or config.quantise != "none"
        weights = _gathered(learner, ranks) if must_gather else {}
        if ranks.first:
            if must_gather:
                model, adapted = load_for_training(base, msgspec.structs.replace(config, quantise="none"), job.seed)
                _set(model, weights)
            if best := read_best(points / BEST):
                logger.info(f"  {label}: keeping step {best.step}, validation loss {best.loss:.4f}")
                _set(model, load_file(points / BEST))
            if adapted is not None:
                merge_checked(model, adapted.merge_and_unload)  # restores ordinary layers in `model`
            save_checkpoint(model, base, output, dtype, inputs.record(), config.keep_float32)
            remove(points.parent)
        ranks.wait()


def require_length(base: Path, longest: int) -> None:
    """Raise UsageError if examples have more tokens than the model was trained for, or than `steady_limit` allows.

    Beyond the latter, log-probs depend on the length of an example.
    """
    model = load_config(base)
    limit, trained_for = steady_limit(model), made_for(model)
    if limit is not None and longest > limit.tokens:
        raise UsageError(
            f"an example has {longest} tokens: beyond {limit.tokens} {limit.reason} depend on the length; "
            f"explore with agent.context = {limit.tokens} or less"
        )
    if longest > trained_for:
        raise UsageError(
            f"an example has {longest} tokens, but the model was trained for {trained_for}; make trajectories with "
            f"agent.context = {trained_for} or less"
        )


def refuse_adapter(config: ModelConfig) -> None:
    """Raise UsageError if the settings put an adapter on the model, since training starts without it."""
    if config.adapter:
        raise UsageError("model.adapter is for answering: merge the adapter into the model before training it further")


def resume_folder(output: Path) -> Path:
    """Return the folder of the resume points of the run that writes `output`."""
    output = behind_link(output)
    return output.with_name(f"{output.name}.resume")


def load_for_training(
    base: Path, config: TrainingConfig, seed: int, dtype: torch.dtype = torch.float32
) -> "tuple[PreTrainedModel, LoraModel | None]":
    """Load a checkpoint for training. Return it and, with `lora_rank`, what can merge its adapters.

    Weights are float32, or 4-bit if `config.quantise` says so, multiplied in `dtype`. With `config.keep_float32`, they
    are the checkpoint's float32 weights; weights to be quantised to 4 bits are the checkpoint's rounded ones. Raises
    UsageError.
    """
    quantisation = quantisation_of(config, dtype) if config.quantise != "none" else None
    model = load_model(base, torch.float32, quantisation)
    if config.keep_float32 and quantisation is None:
        restore_float32(model, base)
    use_onednn(model)
    if config.frozen_layers:
        _freeze(model, config.frozen_layers)
    torch.manual_seed(derive_seed(seed, "adapter"))
    adapted = add_lora(model, config.lora_rank) if config.lora_rank else None
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        # as checkpointing does, trade time for memory: slower allocation, but no holes between the weights
        free_at_once()
    without_noise(model)
    return model, adapted


def quantisation_of(config: TrainingConfig, dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return the settings for quantising by bitsandbytes (arXiv 2305.14314). Raises UsageError if they cannot be
    trained."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError("quantise = 4bit needs bitsandbytes: pip install 'exsearch[qlora]'")
    if not config.lora_rank:
        raise UsageError("quantise = 4bit needs lora_rank: 4-bit weights are not trained, only adapters on them")
    if config.sharding != "none":
        raise UsageError(f"quantise = 4bit cannot be combined with sharding = {config.sharding}: each rank has a copy")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def reference_of(
    model: PreTrainedModel, adapted: "LoraModel | None", config: TrainingConfig, dtype: torch.dtype
) -> Reference:
    """Return a context that provides the model as it is now: without its adapters, or a copy. Raises UsageError."""
    if adapted is not None:

        @contextmanager
        def without_adapters() -> Iterator[PreTrainedModel]:
            adapted.disable_adapter_layers()
            try:
                yield model
            finally:
                adapted.enable_adapter_layers()

        return without_adapters
    if config.sharding in ("fsdp", "zero3"):
        raise UsageError(f"kl with sharding = {config.sharding} needs lora_rank: every rank would hold a whole copy")
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    torch.nn.Module.to(copied, dtype)
    return lambda: nullcontext(copied)


def make_learner(loss: WeightedLoss, config: TrainingConfig, ranks: Ranks, dtype: torch.dtype) -> Learner:
    """Return the learner that the settings name. Raises UsageError if they cannot be satisfied."""
    if config.sharding != "none" and not torch.distributed.is_initialized():
        raise UsageError(f"sharding = {config.sharding} needs several ranks: set ranks, or use torchrun")
    if config.sharding in ("zero2", "zero3"):
        from exsearch.training.learners.zero import ZeroLearner

        return ZeroLearner(loss, config, ranks, dtype)
    return TorchLearner(loss, config, ranks, dtype, config.sharding == "fsdp")


def _steps(
    learner: Learner,
    job: Job,
    split: Split,
    ranks: Ranks,
    points: Path,
    log: LogStep,
    rewind: Callable[[int], None],
) -> None:
    """Make the optimiser steps after the newest resume point."""
    config, seed, (examples, held_out) = job.config, job.seed, split
    total = config.epochs * steps_per_epoch(len(examples), config.batch_size)
    expected = config.denominator == "expected"
    constant = expected_denominator(examples, config.batch_size, config.normalise) if expected else None
    start_step = load_resume_point(points, learner.parameters, learner.restore)
    if ranks.first:
        rewind(start_step)
    with progress(job.label, total, start_step) if ranks.first else nullcontext() as bar:
        for step in range(start_step, total):
            torch.manual_seed(derive_seed(seed, "dropout", step))
            batch = batch_of_step(examples, step, config.batch_size, seed)
            start = time.monotonic()
            sums = accumulate_gradient(learner, batch, config, ranks, constant)
            rate = learning_rate(config, step, total)
            norm = learner.step(rate)
            seconds = time.monotonic() - start
            at_point = (step + 1) % config.save_steps == 0
            validation = {}
            if held_out and (at_point or step + 1 == total):
                validation["validation_loss"] = _validate(learner, held_out, config, ranks, points, step + 1)
            if bar is not None:
                tokens = sum(len(example.token_ids) for example in batch)
                figures = {
                    **sums.per_token(),
                    **validation,
                    "learning_rate": rate,
                    "grad_norm": round(norm, 5),
                    "tokens_per_second": round(tokens / seconds, 1),
                }
                log(step + 1, figures)
                bar.advance(1, f"loss {figures['loss']:.3f}")
            if at_point and step + 1 < total:
                _save_point(learner, ranks, points, step + 1)


def accumulate_gradient(
    learner: Learner, batch: list[Example], config: TrainingConfig, ranks: Ranks, denominator: float | None = None
) -> LossSums:
    """Add the gradient of the loss over a batch, micro-batch by micro-batch, each rank its share. Return the sums.

    `denominator` defaults to the one for training on only this batch.
    """
    if denominator is None:
        is_own = config.denominator == "batch"
        whole = expected_denominator(batch, len(batch), config.normalise)
        denominator = own_denominator(batch, config.normalise) if is_own else whole
    batch = normalised(batch, config.normalise)
    parts = micro_batches(batch, config.micro_batch_tokens, ranks.count, learner.packing)
    packed = packed_of_rank(parts, ranks, learner.packing)
    sums = []
    for part in packed:
        compute.check()
        sums.append(learner.accumulate(part, 1 / denominator, part is packed[-1]))
    return LossSums(*ranks.sum(torch.stack(sums).sum(dim=0)).tolist())


def _save_point(learner: Learner, ranks: Ranks, points: Path, step: int) -> None:
    """Write a resume point; all ranks take part in collecting its tensors."""
    if ranks.first:
        save_resume_point(points, step, learner.state())
    else:
        for _ in learner.state():
            pass
    ranks.wait()


def _validate(
    learner: Learner, held_out: list[Example], config: TrainingConfig, ranks: Ranks, points: Path, step: int
) -> float:
    """Return the validation loss; keep the weights if it is the lowest so far."""
    loss = validation_loss(learner, held_out, config, ranks)
    weights = _gathered(learner, ranks)
    if ranks.first:
        keep_if_best(points / BEST, step, loss, weights.items())
    return loss


def _gathered(learner: Learner, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return, on the first rank, the weights collected from all ranks; all take part."""
    return {name: tensor for name, tensor in learner.weights() if ranks.first}


@torch.no_grad()
def _set(model: PreTrainedModel, weights: dict[str, torch.Tensor]) -> None:
    """Set parameters by name."""
    parameters = dict(model.named_parameters())
    for name, tensor in weights.items():
        parameters[name].copy_(tensor)


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """Return the rate of a step counted from 0: a linear rise over the warm-up share, then the schedule."""
    rise = config.warmup_ratio * total
    if step < rise:
        return config.learning_rate * (step + 1) / (rise + 1)
    progress = (step - rise) / max(total - rise, 1)
    factor = {"cosine": 0.5 * (1 + math.cos(math.pi * progress)), "linear": 1 - progress, "constant": 1.0}[
        config.schedule
    ]
    return config.learning_rate * factor


def _freeze(model: PreTrainedModel, layers: int) -> None:
    """Freeze the embeddings and the lowest layers."""
    stack = decoder_layers(model)
    if layers >= len(stack):
        raise UsageError(f"frozen_layers = {layers}: the model has {len(stack) or 'no'} such layers")
    model.get_input_embeddings().requires_grad_(False)
    for layer in stack[:layers]:
        layer.requires_grad_(False)
