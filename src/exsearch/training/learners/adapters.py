"""LoRA adapters: which layers of a model get one, and which do not."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from exsearch.core.errors import UsageError
from exsearch.engine.models.layers import text_part

if TYPE_CHECKING:
    from peft import LoraModel

_FUSED = ("out_proj", "conv1d")
"""Layers of Mamba whose weights its kernels use without calling the layer."""
_WITH_MAMBA = frozenset(["falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"])
"""Model types for which peft refuses adapters on these."""


@dataclass(frozen=True)
class Adapted:
    """What adapters would cover in a model."""

    layers: dict[str, int]
    """Number of layers with an adapter, by name."""
    share: float
    """Share of the weights outside the embeddings that adapters change."""


def add_lora(model: PreTrainedModel, rank: int) -> "LoraModel":
    """Freeze the model and add LoRA adapters to its linear layers; return what can merge them.

    Raises UsageError for a model whose layers share weights, since each would be changed by the adapters of all.
    """
    from peft import LoraConfig, LoraModel

    shared = _shared_layers(model)
    if shared:
        raise UsageError(
            f"lora_rank: {' and '.join(shared)} share one weight, so that their adapters cannot be merged into it; "
            "train the whole model, with lora_rank = 0"
        )
    settings = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        exclude_modules=_unfit_layers(model) or None,
        task_type="CAUSAL_LM",
    )
    return LoraModel(model, settings, "default")


def adapted_by(model: PreTrainedModel) -> Adapted:
    """Add adapters to a model, and return where they are. Raises UsageError."""
    whole = sum(parameter.numel() for parameter in model.parameters())
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    embedded = {id(weight): weight.numel() for part in ends if part is not None for weight in part.parameters()}
    add_lora(model, 1)
    layers: Counter[str] = Counter()
    covered: dict[int, int] = {}
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if hasattr(module, "lora_A") and last != "base_layer":
            layers[last] += 1
            inside = (one for key, one in module.named_parameters() if "lora_" not in key and not key.endswith("bias"))
            covered |= {id(weight): weight.numel() for weight in inside}
    return Adapted(dict(layers), sum(covered.values()) / max(whole - sum(embedded.values()), 1))


def _linear_layers(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }


def _shared_layers(model: PreTrainedModel) -> list[str]:
    """Return the first layers found that share a weight; none if each has its own."""
    names: dict[int, str] = {}
    for name, module in _linear_layers(model).items():
        other = names.setdefault(id(module.weight), name)
        if other != name:
            return [other, name]
    return []


def _unfit_layers(model: PreTrainedModel) -> list[str]:
    """Return the linear layers that an adapter would break, or in which it would have no effect until it is merged.

    These return more than a product of their input, such as routers, or the model uses their weights without calling
    them, or they process images.
    """
    layers = _linear_layers(model)
    textual = set(text_part(model).modules())
    unfit = {name for name, module in layers.items() if module not in textual}
    unfit |= {name for name in layers if model.config.model_type in _WITH_MAMBA and name.endswith(_FUSED)}
    uncalled = dict(layers)
    names = {module: name for name, module in layers.items()}

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: object) -> None:
        uncalled.pop(names[module], None)
        width = module.nf if isinstance(module, Conv1D) else module.out_features
        if not isinstance(output, torch.Tensor) or output.shape != (*inputs[0].shape[:-1], width):
            unfit.add(names[module])

    token = torch.ones(1, 2, dtype=torch.long, device=model.device)
    handles = [module.register_forward_hook(look) for module in layers.values()]
    try:
        with torch.no_grad():
            model(input_ids=token, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if weights := {name: module.get_parameter("weight") for name, module in uncalled.items()}:
        logits = model(input_ids=token, use_cache=False).logits
        gradients = torch.autograd.grad(logits.sum(), list(weights.values()), allow_unused=True)
        unfit |= {name for name, gradient in zip(weights, gradients, strict=True) if gradient is not None}
    return sorted(unfit)
