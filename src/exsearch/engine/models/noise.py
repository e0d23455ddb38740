"""Makes a model in training compute the same as in generation, without noise.

Training uses the log-probs of the model that generates. A random mask would be shared by all examples with a common
beginning, and a step's gradient would depend on how its examples are packed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


def without_noise(model: torch.nn.Module) -> None:
    """Put a loaded model into evaluation mode for training: no dropout, no jitter, no random choices.

    Call it after enabling gradient checkpointing, which transformers skips in evaluation mode: checkpointed layers
    claim to be in training mode, but compute in evaluation mode.
    """
    model.eval()
    for module in model.modules():
        if hasattr(module, "layers_are_rescaled"):  # RWKV halves its own weights when put into evaluation mode
            module.training = True
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
            layer: Any = module
            layer.training = True
            layer._gradient_checkpointing_func = partial(_compute_again, layer._gradient_checkpointing_func)


def _compute_again(checkpoint: Callable[..., Any], forward: "partial[Any]", *inputs: Any) -> Any:
    """Run the forward pass of a layer, its first argument, under `checkpoint`, in evaluation mode each time."""
    layer = forward.args[0]

    def quietly(*arguments: Any) -> Any:
        layer.training = False
        try:
            return forward(*arguments)
        finally:
            layer.training = True

    return checkpoint(quietly, *inputs)
