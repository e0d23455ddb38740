"""A model that is trained computes what it does when it speaks, without noise.

What is learned are the log-probs of the model that speaks. Drawn at random, a mask would also serve all examples that
share a beginning, and the gradient of a step would depend on how its examples are packed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


def without_noise(model: torch.nn.Module) -> None:
    """Put a loaded model into evaluation for training: nothing is dropped, shaken or drawn in place of the likeliest.

    Call it after gradient checkpointing is switched on, which transformers leaves out in evaluation: layers that are
    to be computed again say that they are in training, but are not while they compute.
    """
    model.eval()
    for module in model.modules():
        if hasattr(module, "layers_are_rescaled"):  # RWKV halves its own weights as soon as it is in evaluation
            module.training = True
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
            layer: Any = module
            layer.training = True
            layer._gradient_checkpointing_func = partial(_compute_again, layer._gradient_checkpointing_func)


def _compute_again(checkpoint: Callable[..., Any], forward: "partial[Any]", *inputs: Any) -> Any:
    """Run the forward pass of a layer, its first argument, under `checkpoint`, in evaluation each time."""
    layer = forward.args[0]

    def quietly(*given: Any) -> Any:
        layer.training = False
        try:
            return forward(*given)
        finally:
            layer.training = True

    return checkpoint(quietly, *inputs)
