"""Chooses the device and the precision of a model."""

import torch

from exsearch.config import ModelConfig


def bfloat16_is_fast(device: str) -> bool:
    """Return whether a torch device, such as `cuda:0` or `cpu`, computes faster in bfloat16 than in float32.

    Among CPUs, only those with AMX are assumed to. AVX-512 BF16 has the instructions, but on one Intel processor
    (benchmarks/encoding.py, and SmolLM2's passes) bfloat16 takes 1.4 to 1.7 times as long as float32. On AMD's Zen 4,
    SmolLM2's passes take 0.57 of the time; whether the engine gives equal bits there too has not been tested.
    """
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_amx_tile_supported())


def pick_device(config: ModelConfig) -> str:
    """Return the torch device that the settings mean on this machine."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def pick_dtype(config: ModelConfig) -> torch.dtype:
    """Return the floating-point type that the settings mean on this machine."""
    if config.precision != "auto":
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision]
    return torch.bfloat16 if bfloat16_is_fast(pick_device(config)) else torch.float32
