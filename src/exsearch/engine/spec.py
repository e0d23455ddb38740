"""The specification of an engine."""

from pathlib import Path

import msgspec
import torch

from exsearch.config import ModelConfig
from exsearch.hardware.devices import pick_device, pick_dtype


class EngineSpec(msgspec.Struct, frozen=True):
    """A model, the settings to run it with, and the number and length of conversations."""

    folder: Path
    """Checkpoint folder; for an endpoint, that of the tokenizer."""
    model: ModelConfig
    context: int
    """Maximum number of tokens per conversation; with `seats`, it bounds the memory."""
    seats: int
    """Maximum number of concurrent conversations."""
    thinking: bool | None = None
    """For an endpoint that writes the prompts itself: whether the model should think; None: the server decides."""
    fingerprint: str = ""
    """Identifies the weights, including those of the adapter; set by `load_engine`."""

    @property
    def device(self) -> str:
        """The torch device."""
        return pick_device(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type in which the model is computed."""
        return pick_dtype(self.model)

    @property
    def adapter(self) -> Path | None:
        """The folder of the LoRA adapter; None without one."""
        return Path(self.model.adapter) if self.model.adapter else None
