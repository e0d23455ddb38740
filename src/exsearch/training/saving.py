"""Checkpoints of training: the model rounded to its precision, and next to it the float32 weights it was rounded from.

Training changes weights by less than bfloat16 can represent: of the weights that an M-step on a few hundred
trajectories trained, 41% were unchanged after rounding. So the float32 weights are kept, and the next training starts
from them. The rounded model answers and explores; its error is that of a single rounding, however many iterations there
were.

Stochastic rounding (to one of the two neighbours, with the probability that preserves the mean) would need no second
file, but makes the result depend on a seed, and on how weights are sharded over ranks. The float32 weights are the same
for merged adapters, for copies and for shards, since all of these are put together in float32.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedModel

from exsearch.core.atomic import atomic_path
from exsearch.core.checksums import write_checksums
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import write_json
from exsearch.core.trouble import probe
from exsearch.engine.models.builtin import model_fingerprint, weights_fingerprint

JOB = "exsearch.json"
"""File of a checkpoint: the fingerprint of everything that it was trained from, and its parts."""
FLOAT32 = "float32"
"""Folder of a checkpoint with the unrounded weights, where code that loads models by `*.safetensors` does not look."""
_FILE = "weights.safetensors"
_SERVED = "served"
"""Key of the file's metadata: the fingerprint of the model that its weights were rounded to."""


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: Path,
    output: Path,
    dtype: torch.dtype,
    record: Mapping[str, Any],
    keep_float32: bool,
) -> None:
    """Write a float32 model, converted to `dtype`, as a checkpoint folder; nothing is left if the disk is full.

    `tokenizer` is a checkpoint with the same tokenizer, and `record` the content of `JOB`. With `keep_float32`, weights
    that `dtype` cannot represent are kept as well.
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
            write_checksums(temporary)
    except SafetensorError as error:  # safetensors' form of an operating-system error
        raise ExSearchError(f"{output}: cannot write the checkpoint: {error}") from error


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Convert it to `dtype`, except what its family always loads in float32, such as a router's bias."""
    kept_float32 = {name: tensor.detach() for name, tensor in _tensors(model) if _stays_float32(model, name)}
    torch.nn.Module.to(model, dtype)
    for name, tensor in _tensors(model):
        if name in kept_float32:
            tensor.data = kept_float32[name]


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _stays_float32(model: PreTrainedModel, name: str) -> bool:
    """Return whether transformers loads a tensor of this family in float32 whatever the precision."""
    return not set(model._keep_in_fp32_modules_strict or ()).isdisjoint(name.split("."))


def _rounded(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the parameters, by name, with any value that `dtype` cannot represent."""
    weights = {name: each.detach() for name, each in model.named_parameters() if not _stays_float32(model, name)}
    return {
        name: weight.cpu().contiguous()
        for name, weight in weights.items()
        if not torch.equal(weight.to(dtype).to(weight.dtype), weight)
    }


@torch.no_grad()
def restore_float32(model: PreTrainedModel, checkpoint: Path) -> None:
    """Set the weights of a model, loaded from a checkpoint in float32, to those kept there, if there are any.

    Raises UsageError if they are damaged, or belong to another model than the checkpoint now has.
    """
    file = checkpoint / FLOAT32 / _FILE
    if not file.exists():
        return
    parameters = dict(model.named_parameters())
    advice = f"remove {file.parent} to continue from the rounded weights"
    try:
        probe(file)  # safetensors reports any file that cannot be opened as missing
        with safe_open(file, framework="pt") as file_content:
            if (file_content.metadata() or {}).get(_SERVED) != model_fingerprint(checkpoint):
                raise UsageError(f"{file}: belongs to other weights than those in {checkpoint}; {advice}")
            for name in file_content.keys():  # noqa: SIM118 (no mapping)
                tensor = file_content.get_tensor(name)
                if name not in parameters or parameters[name].shape != tensor.shape:
                    raise UsageError(f"{file}: {name} does not fit the model in {checkpoint}; {advice}")
                parameters[name].copy_(tensor)
    except SafetensorError as error:
        raise UsageError(f"{file}: damaged ({error}); {advice}") from None


def start_fingerprint(checkpoint: Path, keep_float32: bool) -> str:
    """Identify the weights from which training starts: the checkpoint's, or those kept in float32."""
    served, folder = model_fingerprint(checkpoint), checkpoint / FLOAT32
    if not keep_float32 or not (folder / _FILE).exists():
        return served
    return fingerprint([served, weights_fingerprint(folder)])
