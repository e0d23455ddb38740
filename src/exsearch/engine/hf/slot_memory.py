"""Conversations side by side in the slots of one buffer: the fast way, for models with which it works.

Prompts are fed in chunks, one conversation at a time; then all conversations that generate or score advance by one
token in one forward pass. A prompt that continues a conversation is computed from its end, and the common beginning of
two conversations (the K samples of a question) is computed once.

Every pass has one of a few fixed shapes, (1, chunk) or (slots, 1), padded with rows and positions that are ignored. So
a token is processed by the same kernels whatever else is in progress.
"""

import torch
from transformers import PreTrainedModel

from exsearch.core.tokens import TokenIds, common_start
from exsearch.engine.hf.attention import GROUPED
from exsearch.engine.hf.call import Call
from exsearch.engine.hf.slots import Geometry, SlotCache
from exsearch.engine.models.attention_choice import choose_attention
from exsearch.processes import compute

CHUNKS = range(16, 257, 16)
"""Prompt tokens per pass: the largest size as long as that many are left, then the smallest that holds the rest. So the
sizes depend only on the conversation."""


class SlotMemory:
    """See `exsearch.engine.hf.memory.Memory`."""

    def __init__(self, model: PreTrainedModel, seats: int) -> None:
        """Take a model; its attention becomes that of engine/hf/attention.py. Raises UnevenCacheError.

        Memory for keys and values grows up to `seats` conversations with the length of the longest one.
        """
        parameter = next(model.parameters())
        self._device = parameter.device
        self._cache = SlotCache(Geometry.of(model), parameter.dtype, self._device)
        choose_attention(model, GROUPED)
        self._model, self._seats = model, seats
        self._contents: list[TokenIds] = [[] for _ in range(seats)]
        """Token ids whose keys and values are in each slot."""
        self._slots: dict[int, int] = {}
        """Slots of the conversations that have one."""
        self._none = torch.zeros(0, dtype=torch.long, device=self._device)

    def prefill(self, call: Call) -> int:
        """See Memory.

        The last token of a prompt is not computed here: its hidden state predicts the next. The beginning of another
        conversation is reused up to the end of a chunk, so that chunks start where they would otherwise.
        """
        needed = call.ids[:-1]
        self._cache.reserve(self._seats, max(len(needed), *map(len, self._contents)) + CHUNKS[-1] + 1)
        slot = self._slots.get(call.seat)
        if slot is None:
            slot, cached = self._take_slot(call.seat, needed)
        else:
            cached = common_start(self._contents[slot], needed)
        self._contents[slot] = needed[:cached]
        while (first := len(self._contents[slot])) < len(needed):
            compute.check()
            ids = needed[first : first + CHUNKS[-1]]
            size = next(chunk for chunk in CHUNKS if chunk >= len(ids))
            places = torch.arange(first, first + size, device=self._device)[None]
            padded = torch.tensor([ids + [0] * (size - len(ids))], device=self._device)
            end = first + len(ids)
            self._forward(slot, padded, places, places.clamp(max=end - 1), end, self._none)
            self._contents[slot] += ids
        return cached

    def _take_slot(self, seat: int, needed: TokenIds) -> tuple[int, int]:
        """Take the free slot that shares the longest prefix with the new conversation, else the one with least content.

        If another slot shares more, its content is copied. Returns the slot and the number of tokens that it now has.
        """
        common = [common_start(contents, needed) for contents in self._contents]
        free = set(range(self._seats)) - set(self._slots.values())
        slot = max(sorted(free), key=lambda slot: (common[slot], -len(self._contents[slot])))
        source = max(range(self._seats), key=lambda other: common[other])
        self._slots[seat] = slot
        cached = self._whole_chunks(common[source], len(needed))
        if cached > self._whole_chunks(common[slot], len(needed)):
            self._cache.copy(source, slot, cached)
        return slot, cached

    @staticmethod
    def _whole_chunks(tokens: int, needed: int) -> int:
        return tokens if tokens == needed else tokens // CHUNKS[-1] * CHUNKS[-1]

    def advance(self, calls: list[Call]) -> torch.Tensor:
        """See Memory. Unused rows get a position within the shortest conversation, and are stored in the scratch
        column."""
        slots = [self._slots[call.seat] for call in calls]
        self._cache.reserve(self._seats, max(len(self._contents[slot]) for slot in slots) + 1)
        tokens = torch.zeros(self._seats, 1, dtype=torch.long)
        places = torch.full((self._seats, 1), self._cache.capacity - 1)
        positions = torch.zeros(self._seats, 1, dtype=torch.long)
        for call, slot in zip(calls, slots, strict=True):
            tokens[slot] = call.next_token
            places[slot] = positions[slot] = len(self._contents[slot])
            self._contents[slot].append(call.next_token)
        longest = max(len(self._contents[slot]) for slot in slots)
        tokens, places, positions = (tensor.to(self._device) for tensor in (tokens, places, positions))
        return self._forward(0, tokens, places, positions, longest, 0)[:, -1].float()[slots]

    def _forward(
        self,
        slot: int,
        ids: torch.Tensor,
        places: torch.Tensor,
        positions: torch.Tensor,
        longest: int,
        keep: torch.Tensor | int,
    ) -> torch.Tensor:
        """Run the model on rows for the slots from `slot` on; return its logits at the positions `keep`."""
        mask = self._cache.aim(slot, places, longest)
        logits: torch.Tensor = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
        return logits

    def release(self, seat: int) -> None:
        """See Memory; the slot's content may still be reused as a beginning."""
        self._slots.pop(seat, None)

    def forget(self) -> None:
        """See Memory."""
        occupied = set(self._slots.values())
        self._contents = [held if slot in occupied else [] for slot, held in enumerate(self._contents)]

    def clear(self) -> None:
        """See Memory."""
        self._contents = [[] for _ in self._contents]
