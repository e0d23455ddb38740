"""The default engine: any transformers causal language model, on CPU or GPU, with continuous batching.

Each conversation has a slot that keeps the keys and values of what was computed. Prompts are fed in chunks, one
conversation at a time; then all conversations that generate or score advance by one token in one forward pass, and
those that are done make room for others at once. A prompt that continues a conversation is computed from where that
ended, and what two conversations have in common at their start (the K samples of a question) is computed once.

Every pass has one of a few fixed shapes, (1, chunk) or (slots, 1), with rows and positions that nobody looks at where
there is less to do. So the same kernels work on a token whatever else is in flight, and what a conversation is told
does not depend, in any bit, on its companions, their order, or an interruption.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from exsearch.checkpoint import load_whole
from exsearch.engine.adapter import check_adapter
from exsearch.engine.attention import GROUPED
from exsearch.engine.base import Completion, EngineError, EngineStats, Finish, Sampling, TokenIds, common_start
from exsearch.engine.sampling import draw, uniforms
from exsearch.engine.slots import SlotCache
from exsearch.engine.worker import Worker
from exsearch.memory import is_out_of_memory
from exsearch.onednn import use_onednn

CHUNKS = range(16, 257, 16)
"""Prompt tokens of one pass: the largest as long as there are so many, then the smallest that holds the rest. Which it
is depends on the conversation alone."""


@dataclass(eq=False)
class _Call:
    """One `generate` or `logprobs` on its way through the engine."""

    seat: "_Seat"
    ids: TokenIds
    sampling: Sampling | None = None
    noise: torch.Tensor | None = None
    """A uniform number for each token that may be drawn."""
    target: TokenIds = field(default_factory=list)
    """What is scored; empty if tokens are drawn."""
    output: TokenIds = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    prefilled: int = 0
    cached: int = 0
    asked: float = field(default_factory=time.monotonic)
    started: float = 0.0
    done: "asyncio.Future[None] | None" = None
    dropped: bool = False
    """Nobody waits for it any more."""

    @property
    def next_token(self) -> int:
        """The token to feed next, whose hidden state predicts the one after it."""
        said = self.target[: len(self.logprobs)] if self.target else self.output
        return said[-1] if said else self.ids[-1]

    @property
    def finish(self) -> Finish | None:
        """Why it is over, if it is."""
        if self.sampling is None:
            return "stop" if len(self.logprobs) == len(self.target) else None
        if self.output and self.output[-1] in self.sampling.stop_ids:
            return "stop"
        return "length" if len(self.output) == self.sampling.max_new_tokens else None


class HFEngine:
    """Generates and scores with a transformers model; see `exsearch.engine.base.Engine`."""

    scores = True

    def __init__(self, model: PreTrainedModel, fingerprint: str, seats: int = 64) -> None:
        """Wrap a loaded model. Memory for keys and values grows to `seats` conversations of the longest one's size."""
        model.set_attn_implementation(GROUPED)
        self.model = model.eval()
        self.fingerprint = fingerprint
        self.seats = seats
        window = getattr(model.config, "sliding_window", None)
        self.context_size = int(min(model.config.max_position_embeddings, window or np.inf))
        self.stats = EngineStats()
        parameter = next(model.parameters())
        self._device = parameter.device
        self._head: torch.nn.Module = model.get_output_embeddings()
        self._cache = SlotCache(model.config, parameter.dtype, self._device)
        self._contents: list[TokenIds] = [[] for _ in range(seats)]
        """Token ids whose keys and values each slot holds."""
        self._taken: set[int] = set()
        self._worker = Worker("engine")
        self._arrived: list[_Call] = []
        self._live: list[_Call] = []
        self._driver: asyncio.Task[None] | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        fingerprint: str,
        dtype: torch.dtype,
        device: str,
        seats: int = 64,
        adapter: Path | None = None,
    ) -> "HFEngine":
        """Load a checkpoint folder, with a LoRA adapter merged into it in memory if there is one.

        Raises UsageError if either lacks a weight or has one too many.
        """
        if adapter is not None:
            check_adapter(adapter, folder)
        model = load_whole(AutoModelForCausalLM, folder, dtype=dtype)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        torch.nn.Module.to(model, device)
        use_onednn(model)
        return cls(model, fingerprint, seats)

    def open(self) -> "_Seat":
        """Take a seat; see Engine."""
        return _Seat(self)

    def forget(self) -> None:
        """Drop what free slots hold, so that nothing of earlier work is reused; for measurements."""
        self._contents = [held if slot in self._taken else [] for slot, held in enumerate(self._contents)]

    def shut_down(self) -> None:
        """Free the model's memory, as far as nobody else holds it."""
        del self.model, self._head, self._cache

    # Coroutines: waiting for the steps below, which run in the engine's thread.

    async def ask(self, call: _Call) -> None:
        """Wait until the engine is done with the call; raises EngineError."""
        call.done = asyncio.get_running_loop().create_future()
        self._arrived.append(call)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
        try:
            await call.done
        finally:
            call.dropped = True

    async def _drive(self) -> None:
        """Take steps as long as there is something to do."""
        while self._arrived or self._live:
            await asyncio.sleep(0)  # who was answered may ask again before the next step
            arrived, self._arrived = self._arrived, []
            try:
                finished = await self._worker.run(lambda arrived=arrived: self._step(arrived))  # type: ignore[misc]
            except Exception as error:
                self._fail(arrived, error)
                continue
            for call in finished:
                if call.done is not None and not call.done.done():
                    call.done.set_result(None)

    def _fail(self, arrived: list[_Call], error: Exception) -> None:
        """Tell everybody who waits; what the slots hold is no longer known."""
        reason = str(error)
        if is_out_of_memory(error):
            reason = f"out of memory with room for {self.seats} conversations; lower rollout.in_flight"
        calls, self._live = {*arrived, *self._live}, []
        self._contents = [[] for _ in self._contents]
        for call in calls:
            if call.done is not None and not call.done.done():
                call.done.set_exception(EngineError(f"the model failed: {reason}"))

    # Steps.

    @torch.inference_mode()
    def _step(self, arrived: list[_Call]) -> list[_Call]:
        """Feed the prompts that arrived, advance everything by one token; return what is done."""
        start = time.monotonic()
        self._live = [call for call in self._live if not call.dropped]
        for call in arrived:
            if not call.dropped:
                call.started = time.monotonic()
                self._place(call)
                self._prefill(call)
                self._live.append(call)
        if self._live:
            self._advance()
        finished = [call for call in self._live if call.finish]
        self._live = [call for call in self._live if not call.finish]
        self.stats.seconds += time.monotonic() - start
        return finished

    def _place(self, call: _Call) -> None:
        """Find the call's slot and what it already holds of the prompt.

        At least the last token of a prompt is computed: its hidden state predicts the next. Another conversation's
        beginning is taken over up to the end of a chunk, so that chunks begin where they would without it.
        """
        needed = call.ids[:-1]
        self._cache.reserve(self.seats, max(len(needed), *map(len, self._contents)) + CHUNKS[-1] + 1)
        if call.seat.slot is None:
            call.seat.slot, call.cached = self._take_slot(needed)
        else:
            call.cached = common_start(self._contents[call.seat.slot], needed)
        self._contents[call.seat.slot] = needed[: call.cached]
        self.stats.cached_tokens += call.cached

    def _take_slot(self, needed: TokenIds) -> tuple[int, int]:
        """Take the free slot that holds most of a new conversation's beginning, or what is least worth keeping.

        What another slot holds beyond that is copied. Returns the slot and how many tokens it now holds.
        """
        common = [common_start(contents, needed) for contents in self._contents]
        free = [slot for slot in range(self.seats) if slot not in self._taken]
        slot = max(free, key=lambda slot: (common[slot], -len(self._contents[slot])))
        source = max(range(self.seats), key=lambda other: common[other])
        self._taken.add(slot)
        cached = self._whole_chunks(common[source], len(needed))
        if cached > self._whole_chunks(common[slot], len(needed)):
            self._cache.copy(source, slot, cached)
        return slot, cached

    @staticmethod
    def _whole_chunks(tokens: int, needed: int) -> int:
        return tokens if tokens == needed else tokens // CHUNKS[-1] * CHUNKS[-1]

    def _prefill(self, call: _Call) -> None:
        """Feed all but the last token of a prompt."""
        slot, needed = self._slot(call), call.ids[:-1]
        while (first := len(self._contents[slot])) < len(needed):
            ids = needed[first : first + CHUNKS[-1]]
            size = next(chunk for chunk in CHUNKS if chunk >= len(ids))
            positions = torch.arange(first, first + size, device=self._device)[None]
            padded = torch.tensor([ids + [0] * (size - len(ids))], device=self._device)
            self._forward(slot, padded, positions, first + len(ids))
            self._contents[slot] += ids
        call.prefilled = len(call.ids) - call.cached
        self.stats.prefilled_tokens += call.prefilled

    def _advance(self) -> None:
        """Feed one token of each live call and take what it predicts."""
        self._cache.reserve(self.seats, max(len(self._contents[self._slot(call)]) for call in self._live) + 1)
        tokens = torch.zeros(self.seats, 1, dtype=torch.long)
        positions = torch.full((self.seats, 1), self._cache.capacity - 1)
        for call in self._live:
            slot = self._slot(call)
            tokens[slot] = call.next_token
            positions[slot] = len(self._contents[slot])
            self._contents[slot].append(call.next_token)
        longest = max(len(self._contents[self._slot(call)]) for call in self._live)
        hidden = self._forward(0, tokens.to(self._device), positions.to(self._device), longest)
        logits = self._head(hidden[:, 0]).float()
        chosen = self._choose(logits)
        rows = [self._slot(call) for call in self._live]
        logprobs = (logits[rows].gather(1, chosen[:, None]).squeeze(1) - logits[rows].logsumexp(dim=-1)).tolist()
        for call, token, logprob in zip(self._live, chosen.tolist(), logprobs, strict=True):
            call.logprobs.append(logprob)
            if call.sampling is None:
                self.stats.scored_tokens += 1
            else:
                call.output.append(token)
                self.stats.generated_tokens += 1

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the next token of each live call: drawn, or the target's."""
        chosen = torch.zeros(len(self._live), dtype=torch.long)
        ways: dict[tuple[float, float], list[int]] = {}
        for index, call in enumerate(self._live):
            if call.sampling is None:
                chosen[index] = call.target[len(call.logprobs)]
            else:
                ways.setdefault((call.sampling.temperature, call.sampling.top_p), []).append(index)
        for (temperature, top_p), indices in ways.items():
            calls = [self._live[index] for index in indices]
            noise = torch.stack([call.noise[len(call.output)] for call in calls if call.noise is not None])
            rows = [self._slot(call) for call in calls]
            chosen[indices] = draw(logits[rows], noise, temperature, top_p).cpu()
        return chosen.to(logits.device)

    def _forward(self, slot: int, ids: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Run the model on rows for the slots from `slot` on; return hidden states (rows, tokens, hidden size)."""
        mask = self._cache.aim(slot, positions, longest)
        hidden: torch.Tensor = self.model.base_model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    @staticmethod
    def _slot(call: _Call) -> int:
        assert call.seat.slot is not None
        return call.seat.slot

    def release(self, slot: int) -> None:
        """Let another seat have the slot; what it holds may still serve as a beginning."""
        self._taken.discard(slot)


class _Seat:
    """See `exsearch.engine.base.Seat`. Its slot is chosen with its first prompt, by what slots hold of it."""

    def __init__(self, engine: HFEngine) -> None:
        self._engine = engine
        self.slot: int | None = None

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        call = _Call(self, prompt, sampling, uniforms([seed], sampling.max_new_tokens)[0])
        await self._engine.ask(call)
        assert call.finish is not None
        waited = call.started - call.asked
        return Completion(call.output, call.logprobs, call.finish, call.prefilled, call.cached, waited)

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        call = _Call(self, prefix, target=target)
        await self._engine.ask(call)
        return call.logprobs

    def close(self) -> None:
        if self.slot is not None:
            self._engine.release(self.slot)
