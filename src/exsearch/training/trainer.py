"""One trainer for warm-up (weight 1) and the M-step (weight w_k): AdamW on the weighted loss, resumable.

A resume point holds weights, optimiser state and the step. Data order and learning rate are functions of the step,
so a run that was killed and continued ends with the same weights as one that was not.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from exsearch.config import ModelConfig, TrainingConfig
from exsearch.engine.builtin import model_fingerprint
from exsearch.engine.load import pick_device, pick_dtype
from exsearch.engine.sampling import derive_seed
from exsearch.errors import ExSearchError, UsageError
from exsearch.files import atomic_path, fingerprint, read_json, remove, write_json
from exsearch.progress import progress
from exsearch.training.batches import batch_of_step, micro_batches, steps_per_epoch
from exsearch.training.example import Example
from exsearch.training.loss import LossSums, weighted_nll
from exsearch.training.resume import load_resume_point, save_resume_point

if TYPE_CHECKING:
    from peft import LoraModel

JOB = "exsearch.json"
"""In a checkpoint: the fingerprint of all that it was trained from."""
LogStep = Callable[[int, dict[str, float]], None]


def train(
    base: Path,
    examples: list[Example],
    output: Path,
    config: TrainingConfig,
    model_config: ModelConfig,
    seed: int,
    label: str,
    log: LogStep,
    rewind: Callable[[int], None] = lambda step: None,
) -> None:
    """Fine-tune the checkpoint in `base` on weighted examples and write the result to the folder `output`.

    A finished output of the same inputs is left as it is; raises UsageError if it is of others.

    Weights are kept in float32 and saved in the precision of the forward pass. `log` gets the step (from 1) and
    its figures; `rewind` is told the step that a resumed run continues from.
    """
    if not examples:
        raise ExSearchError(f"{label}: nothing to learn from")
    if config.lora_rank and config.frozen_layers:
        raise UsageError("lora_rank and frozen_layers exclude each other: an adapter would change the frozen layers")
    device = pick_device(model_config)
    dtype = pick_dtype(model_config)
    job = fingerprint([model_fingerprint(base), examples, config, seed, str(dtype)])
    if output.exists():
        if read_json(output / JOB, dict[str, str]).get("job") != job:
            raise UsageError(f"{output}: holds a model trained from other inputs or settings; choose another folder")
        return
    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="sdpa")
    torch.nn.Module.to(model, device)
    if config.frozen_layers:
        _freeze(model, config.frozen_layers)
    torch.manual_seed(derive_seed(seed, "adapter"))
    adapted = _add_lora(model, config.lora_rank) if config.lora_rank else None
    model.train()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # Fused: on two cores the default implementation takes seconds a step, as long as the rest of the step.
    optimiser = torch.optim.AdamW(
        parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    total = config.epochs * steps_per_epoch(len(examples), config.batch_size)
    points = output.with_name(f"{output.name}.resume") / job
    done = load_resume_point(points, parameters, optimiser)
    rewind(done)
    with progress(label, total, done) as bar:
        for step in range(done, total):
            torch.manual_seed(derive_seed(seed, "dropout", step))
            batch = batch_of_step(examples, step, config.batch_size, seed)
            figures = _step(model, optimiser, batch, config, learning_rate(config, step, total), dtype)
            log(step + 1, figures)
            bar.advance(1, f"loss {figures['loss']:.3f}")
            if (step + 1) % config.save_steps == 0 and step + 1 < total:
                save_resume_point(points, step + 1, parameters, optimiser)
    if adapted is not None:
        adapted.merge_and_unload()  # puts ordinary layers back into `model`
    torch.nn.Module.to(model, dtype)
    _save(model, base, output, job)
    remove(points.parent)


def _save(model: PreTrainedModel, base: Path, output: Path, job: str) -> None:
    """Write a checkpoint folder with the tokenizer of `base`; nothing is left of it if the disk is full."""
    try:
        with atomic_path(output) as temporary:
            model.save_pretrained(temporary)
            AutoTokenizer.from_pretrained(base).save_pretrained(temporary)
            write_json(temporary / JOB, {"job": job})
    except SafetensorError as error:  # what safetensors makes of an operating-system error
        raise ExSearchError(f"{output}: cannot write the checkpoint: {error}") from error


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """Return the rate of a step counted from 0: a linear rise over the warm-up share, then a cosine to zero."""
    rise = config.warmup_ratio * total
    if step < rise:
        return config.learning_rate * (step + 1) / (rise + 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))


def _step(
    model: PreTrainedModel,
    optimiser: torch.optim.Optimizer,
    batch: list[Example],
    config: TrainingConfig,
    rate: float,
    dtype: torch.dtype,
) -> dict[str, float]:
    """Make one optimiser step; return its figures."""
    start = time.monotonic()
    sums = accumulate_gradient(model, batch, config, dtype)
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad()
    tokens = sum(len(example.token_ids) for example in batch)
    return {
        **sums.per_token(),
        "learning_rate": rate,
        "grad_norm": round(float(norm), 5),
        "tokens_per_second": round(tokens / (time.monotonic() - start), 1),
    }


def accumulate_gradient(
    model: PreTrainedModel, batch: list[Example], config: TrainingConfig, dtype: torch.dtype
) -> LossSums:
    """Add the gradient of the loss over a batch to the parameters' gradients, micro-batch by micro-batch."""
    mass = sum(example.weight for example in batch)
    device = next(model.parameters()).device
    sums = LossSums()
    for examples in micro_batches(batch, config.micro_batch_tokens):
        mixed = torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext()
        with mixed:
            loss, part = weighted_nll(model, examples, config.search_loss, config.answer_loss)
        (loss / mass).backward()
        sums += part
    return sums


def _freeze(model: PreTrainedModel, layers: int) -> None:
    """Freeze the embeddings and the lowest layers."""
    stack = getattr(model.base_model, "layers", None)
    if stack is None or layers >= len(stack):
        raise UsageError(f"frozen_layers = {layers}: the model has {'no' if stack is None else len(stack)} such layers")
    model.get_input_embeddings().requires_grad_(False)
    for layer in stack[:layers]:
        layer.requires_grad_(False)


def _add_lora(model: PreTrainedModel, rank: int) -> "LoraModel":
    """Freeze the model and put LoRA adapters into its linear layers; return what can merge them."""
    from peft import LoraConfig, LoraModel

    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return LoraModel(model, settings, "default")
