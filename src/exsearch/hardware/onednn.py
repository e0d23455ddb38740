"""float32 layers on AMD processors, multiplied by oneDNN.

For float32, torch calls MKL, which runs AMD processors at half their speed: 224 of 510 GFLOP/s in the layers of
SmolLM2-135M on two cores of an EPYC with AVX-512 (torch 2.13). On one with only AVX2, both are equal for many rows, and
for few rows oneDNN is up to 1.5 times as fast. It is part of torch; its layers without autograd are what torch.compile
makes of a linear layer, and the gradient is added here.
"""

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch


@cache
def is_faster() -> bool:
    """Return whether oneDNN is faster on this processor, and torch has it."""
    if platform.system() != "Linux" or not torch.backends.mkldnn.is_available():
        return False
    vendor = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return vendor and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def use_onednn(model: torch.nn.Module) -> None:
    """Make a model's linear layers multiply by oneDNN if that is faster; its parameters do not change."""
    if is_faster():
        for module in model.modules():
            if type(module) is torch.nn.Linear:
                module.__class__ = OneDNNLinear


class OneDNNLinear(torch.nn.Linear):
    """A linear layer that uses oneDNN for float32 on the CPU, and torch for anything else."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return input times the weight, transposed, plus the bias if there is one."""
        exact = input.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not exact or input.device.type != "cpu" or not input.numel():
            return super().forward(input)
        product: torch.Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        return _multiplied(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        [gradient] = gradients
        input, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        wants_input, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            _multiplied(gradient, weight.t()) if wants_input else None,
            _multiplied(rows.t(), input.reshape(-1, input.shape[-1]).t()) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


def _multiplied(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return `left` times `right`, transposed."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return product
