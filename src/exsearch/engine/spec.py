"""What an engine is made of."""

from pathlib import Path

import msgspec
import torch

from exsearch.config import ModelConfig
from exsearch.hardware.devices import pick_device, pick_dtype


class EngineSpec(msgspec.Struct, frozen=True):
    """A model, by which settings it is computed, and how much room there is for conversations."""

    folder: Path
    """Checkpoint folder; for an endpoint, that of the tokenizer."""
    model: ModelConfig
    context: int
    """Maximum number of tokens per conversation; with `seats`, it bounds the memory."""
    seats: int
    """Number of conversations at the same time."""
    thinking: bool | None = None
    """For an endpoint that writes the prompts itself: whether its model is to think; None leaves it open."""
    fingerprint: str = ""
    """Identifies the weights, those of the adapter included; `load_engine` finds it out."""

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
        """The folder of the LoRA adapter, if there is one."""
        return Path(self.model.adapter) if self.model.adapter else None
