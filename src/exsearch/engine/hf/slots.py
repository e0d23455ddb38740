"""Key-value memory of many sequences side by side, each in a row ("slot") with its own length.

Keys and values have one buffer each, of shape (layers, slots, key heads, capacity, width). A forward pass works on a
contiguous range of slots, so attention reads a view of the buffer, without copying. A single large buffer is returned
to the system when it is freed, so that the trainer can use it; many small ones might stay with the process.
"""

from dataclasses import dataclass

import torch
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from exsearch.core.errors import ExSearchError
from exsearch.engine.hf.attention import GROUPED
from exsearch.engine.models.attention_choice import attention_of, choose_attention

BLOCK = {torch.float32: 512, torch.bfloat16: 128}
"""Attention sees a multiple of this many positions, with the surplus masked: torch's CPU kernels process keys in
blocks, and with whole blocks a row's sum has the same order however long its neighbours are."""


class UnevenCacheError(ExSearchError):
    """A model remembers something else than the same number of keys and values in every layer."""


@dataclass(frozen=True)
class Geometry:
    """The sizes of what a model remembers per token."""

    layers: int
    heads: int
    key_width: int
    value_width: int

    @classmethod
    @torch.inference_mode()
    def of(cls, model: PreTrainedModel) -> "Geometry":
        """Measure a model by letting it process two tokens. Raises UnevenCacheError."""
        tokens = torch.ones(1, 2, dtype=torch.long, device=model.device)
        attention = attention_of(model)
        if attention[""] == GROUPED:  # set by another engine on the same model; it needs a mask
            choose_attention(model, "eager")
        layers = getattr(model(input_ids=tokens, use_cache=True).past_key_values, "layers", [])
        choose_attention(model, attention)
        sizes = {
            (key.shape[1], key.shape[3], value.shape[1], value.shape[3])
            if type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
            and isinstance(key := layer.keys, torch.Tensor)
            and isinstance(value := layer.values, torch.Tensor)
            else type(layer).__name__
            for layer in layers
        }
        if len(sizes) == 1:
            [size] = sizes
            if isinstance(size, tuple) and size[0] == size[2]:
                return cls(len(layers), size[0], size[1], size[3])
        contents = ", ".join(sorted(map(str, sizes))) or "nothing"
        raise UnevenCacheError(f"its layers remember {contents}, not keys and values of one size")


class SlotCache(Cache):
    """A transformers cache whose rows have different lengths; the caller decides where new tokens go.

    Call `aim` before each forward pass. Attention then sees, for the chosen range of slots, keys and values of all
    positions up to the longest row's; the mask hides positions beyond a row's own length.
    """

    def __init__(self, geometry: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        """Start without memory; `reserve` allocates it."""
        super().__init__(layers=[])
        self._geometry = geometry
        self._dtype, self._device = dtype, device
        self._block = BLOCK.get(dtype, 512)
        widths = geometry.key_width, geometry.value_width
        self._keys, self._values = (self._buffer(0, 0, width) for width in widths)
        self.slots = self.capacity = 0
        self._range = slice(0, 0)
        self._positions = torch.zeros(0, 0, dtype=torch.long)
        self._rows = torch.zeros(0, 1, dtype=torch.long)
        self._visible = 0

    def _buffer(self, slots: int, capacity: int, width: int) -> torch.Tensor:
        shape = (self._geometry.layers, slots, self._geometry.heads, capacity, width)
        return torch.zeros(shape, dtype=self._dtype, device=self._device)

    def reserve(self, slots: int, tokens: int) -> None:
        """Make room for at least `slots` rows of `tokens` tokens; stored content is kept."""
        if slots <= self.slots and tokens < self.capacity:
            return
        slots = max(slots, self.slots)
        capacity = max((tokens // 512 + 1) * 512, self.capacity)  # the last column is a scratch column for padding
        self._keys, self._values = (self._grown(old, slots, capacity) for old in (self._keys, self._values))
        self.slots, self.capacity = slots, capacity

    def _grown(self, old: torch.Tensor, slots: int, capacity: int) -> torch.Tensor:
        new = self._buffer(slots, capacity, old.shape[-1])
        new[:, : self.slots, :, : self.capacity] = old
        return new

    def aim(self, start: int, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Prepare the next forward pass for the slots from `start` on; return its attention mask.

        `positions`, of shape (rows, new tokens), has each new token's position in its row; `longest` is the number of
        positions to see in the longest row. The mask has the shape that attention.py needs, is causal within each row,
        and is added to the attention scores: a boolean one would be converted again in every layer.
        """
        rows = positions.shape[0]
        self._range = slice(start, start + rows)
        self._positions = positions
        self._rows = torch.arange(start, start + rows, device=self._device)[:, None]
        self._visible = min(-(-longest // self._block) * self._block, self.capacity)
        visible = torch.arange(self._visible, device=self._device)
        hidden = visible[None, None, None, :] > positions[:, None, :, None]
        return torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, -torch.inf)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new keys and values of a layer, (rows, heads, new tokens, width); return all visible ones."""
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._rows, :, self._positions] = key_states.transpose(1, 2)
        values[self._rows, :, self._positions] = value_states.transpose(1, 2)
        return keys[self._range, :, : self._visible], values[self._range, :, : self._visible]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0, since positions are always given explicitly."""
        return 0

    def copy(self, source: int, target: int, end: int) -> None:
        """Copy the first `end` positions of one slot over those of another."""
        for buffer in (self._keys, self._values):
            buffer[:, target, :, :end] = buffer[:, source, :, :end]
