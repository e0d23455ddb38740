"""Training without noise: what a model drops or shakes at random is left alone.

One mask would serve all examples that share a beginning, and the gradient of a step would depend on how its examples
are packed.
"""

import torch

_NAMES = ("dropout", "drop", "jitter")
"""Of attributes that say how much noise there is."""


def without_noise(model: torch.nn.Module) -> None:
    """Set every rate of dropout and every jitter of a loaded model to 0; its configuration stays what it is."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout1d | torch.nn.Dropout2d | torch.nn.AlphaDropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if type(value) is float and any(part in name for part in _NAMES):
                setattr(module, name, 0.0)
