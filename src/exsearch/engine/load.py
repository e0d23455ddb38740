"""From a model name and settings to a running engine."""

from pathlib import Path

import torch

from exsearch.config import ModelConfig
from exsearch.engine.builtin import model_fingerprint
from exsearch.engine.hf import HFEngine


def pick_device(config: ModelConfig) -> str:
    """Return the torch device that the settings mean on this machine."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def pick_dtype(config: ModelConfig) -> torch.dtype:
    """Return the floating-point type that the settings mean on this machine."""
    if config.precision != "auto":
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision]
    if pick_device(config).startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # Without AVX-512 BF16 or AMX, bfloat16 is emulated and slower than float32.
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def load_engine(folder: Path, config: ModelConfig, max_batch: int) -> HFEngine:
    """Load a checkpoint folder into the transformers engine."""
    return HFEngine.load(folder, model_fingerprint(folder), pick_dtype(config), pick_device(config), max_batch)
