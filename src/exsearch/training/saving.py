"""Checkpoints of training: what is served, rounded to its precision, and beside it the float32 weights it is of.

Training moves weights by less than a bfloat16 can show: of the weights that an M-step of a few hundred trajectories
trained, 41% came out unchanged by rounding. So what rounding takes away is kept, and the next training begins with the
weights that the last one ended with. What answers and explores is the rounded model, whose error is then that of one
rounding, however many iterations there were.

Rounding at random (to one of the two neighbours, with the probability that keeps the mean) would need no second file,
but makes what is trained a draw: with the seed, and with how weights are cut over ranks. The float32 weights are the
same for adapters that were merged, for copies and for shards, since all of these are put together in float32.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedModel

from exsearch.core.atomic import atomic_path
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import write_json
from exsearch.core.trouble import probe
from exsearch.engine.builtin import model_fingerprint, weights_fingerprint

JOB = "exsearch.json"
"""In a checkpoint: the fingerprint of all that it was trained from, and its parts."""
FLOAT32 = "float32"
"""Folder in a checkpoint, out of sight of what loads models by `*.safetensors`, with the weights that were rounded."""
_FILE = "weights.safetensors"
_SERVED = "served"
"""In the file's metadata: the fingerprint of the model that its weights were rounded to."""


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: Path,
    output: Path,
    dtype: torch.dtype,
    record: Mapping[str, Any],
    keep_float32: bool,
) -> None:
    """Write a float32 model, which becomes one of `dtype`, as a checkpoint folder; nothing is left if the disk is full.

    `tokenizer` is a checkpoint with the same one, `record` what `JOB` is to hold. With `keep_float32`, weights that
    `dtype` cannot hold are kept beside it.
    """
    exact = _rounded(model, dtype) if keep_float32 else {}
    _cast(model, dtype)
    try:
        with atomic_path(output) as temporary:
            model.save_pretrained(temporary)
            AutoTokenizer.from_pretrained(tokenizer).save_pretrained(temporary)
            if exact:
                (temporary / FLOAT32).mkdir()
                save_file(exact, temporary / FLOAT32 / _FILE, metadata={_SERVED: model_fingerprint(temporary)})
            write_json(temporary / JOB, record)
    except SafetensorError as error:  # what safetensors makes of an operating-system error
        raise ExSearchError(f"{output}: cannot write the checkpoint: {error}") from error


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Make it a model of `dtype`, but for what its family is always loaded with in float32, as a router's bias."""
    kept = {name: tensor.detach() for name, tensor in _tensors(model) if _stays_float32(model, name)}
    torch.nn.Module.to(model, dtype)
    for name, tensor in _tensors(model):
        if name in kept:
            tensor.data = kept[name]


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _stays_float32(model: PreTrainedModel, name: str) -> bool:
    """Return whether transformers loads a tensor of this family in float32 whatever the precision asked for."""
    return not set(model._keep_in_fp32_modules_strict or ()).isdisjoint(name.split("."))


def _rounded(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the parameters, by name, with any value that `dtype` cannot hold."""
    weights = {name: each.detach() for name, each in model.named_parameters() if not _stays_float32(model, name)}
    return {
        name: weight.cpu().contiguous()
        for name, weight in weights.items()
        if not torch.equal(weight.to(dtype).to(weight.dtype), weight)
    }


@torch.no_grad()
def restore_float32(model: PreTrainedModel, checkpoint: Path) -> None:
    """Give a model that was loaded from a checkpoint, in float32, the weights kept there, if there are any.

    Raises UsageError if they are damaged, or those of another model than the checkpoint now holds.
    """
    file = checkpoint / FLOAT32 / _FILE
    if not file.exists():
        return
    parameters = dict(model.named_parameters())
    advice = f"remove {file.parent} to go on from the rounded weights"
    try:
        probe(file)  # safetensors calls whatever cannot be opened missing
        with safe_open(file, framework="pt") as kept:
            if (kept.metadata() or {}).get(_SERVED) != model_fingerprint(checkpoint):
                raise UsageError(f"{file}: belongs to other weights than {checkpoint} holds; {advice}")
            for name in kept.keys():  # noqa: SIM118 (no mapping)
                tensor = kept.get_tensor(name)
                if name not in parameters or parameters[name].shape != tensor.shape:
                    raise UsageError(f"{file}: {name} does not fit the model in {checkpoint}; {advice}")
                parameters[name].copy_(tensor)
    except SafetensorError as error:
        raise UsageError(f"{file}: damaged ({error}); {advice}") from None


def start_fingerprint(checkpoint: Path, keep_float32: bool) -> str:
    """Identify the weights that training begins with: those of the checkpoint, or what was kept of them in float32."""
    served, folder = model_fingerprint(checkpoint), checkpoint / FLOAT32
    if not keep_float32 or not (folder / _FILE).exists():
        return served
    return fingerprint([served, weights_fingerprint(folder)])
