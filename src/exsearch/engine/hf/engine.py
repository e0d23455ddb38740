"""The default engine: any transformers causal language model, on CPU or GPU, with continuous batching.

Prompts are fed as they arrive; then all conversations that generate or score advance by one token together, and those
that are done are replaced at once. A conversation's cache is kept for its next turn: see slot_memory.py for the fast
way, and own_memory.py for the general one.

Results of a conversation do not depend, in any bit, on other conversations, their order, or an interruption; except for
mixtures of experts in slots, whose matrix products have other shapes next to other conversations, so that the last bits
differ.
"""

import asyncio
import itertools
import time
from typing import cast

import torch
from transformers import PreTrainedModel

from exsearch.core.messages import logger
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, EngineError, EngineStats, Sampling
from exsearch.engine.hf.call import Call
from exsearch.engine.hf.memory import Memory
from exsearch.engine.hf.paths import EnginePath, engine_verdict, memory_of
from exsearch.engine.hf.sampling import draw, uniforms
from exsearch.engine.models.adapter import check_adapter
from exsearch.engine.models.attention_choice import attention_of, choose_attention
from exsearch.engine.models.checkpoint import load_model
from exsearch.engine.models.limits import context_limit, steady_limit
from exsearch.engine.models.merging import merge_checked
from exsearch.engine.models.probe import require_path
from exsearch.engine.spec import EngineSpec
from exsearch.hardware.memory import is_out_of_memory
from exsearch.hardware.onednn import use_onednn
from exsearch.processes import compute


class HFEngine:
    """Generates and scores with a transformers model; see `exsearch.engine.base.Engine`."""

    scores = True

    def __init__(self, model: PreTrainedModel, fingerprint: str, seats: int = 64, path: EnginePath = "slots") -> None:
        """Wrap a loaded model, without checking that the path is right for it; `load` checks."""
        self.model = model.eval()
        self.fingerprint = fingerprint
        self.seats = seats
        self.context_size = context_limit(model.config)
        self.stats = EngineStats()
        self.path = path
        self._steady_limit = steady_limit(model.config)
        self._memory: Memory = memory_of(model, path, seats)
        self._closed: list[int] = []
        """Seats whose conversations are over, but still occupy memory."""
        self._arrived: list[Call] = []
        self._live: list[Call] = []
        self._driver: asyncio.Task[None] | None = None

    @classmethod
    @compute.owned
    def load(cls, spec: EngineSpec) -> "HFEngine":
        """Load a checkpoint folder, with a LoRA adapter merged into it in memory if there is one.

        Raises UsageError if either has missing or surplus weights, and if no path gives the log-probs of transformers.
        """
        adapter, device = spec.adapter, spec.device
        if adapter is not None:
            check_adapter(adapter, spec.folder)
        model = load_model(spec.folder, spec.dtype)
        attention = attention_of(model)
        if adapter is not None:
            from peft import PeftModel

            adapted = PeftModel.from_pretrained(model, adapter)
            merge_checked(model, adapted.merge_and_unload)
            choose_attention(model, attention)
        torch.nn.Module.to(model, device)
        use_onednn(model)
        verdict = engine_verdict(model.eval(), spec.fingerprint, device)
        path = cast(EnginePath, require_path(verdict, "the engine"))
        if path != "slots":
            logger.info(f"  engine: {path}, because this model does not work in slots ({verdict.rejected['slots']})")
        return cls(model, spec.fingerprint, spec.seats, path)

    def open(self) -> "_Seat":
        """Take a seat; see Engine."""
        return _Seat(self)

    def forget(self) -> None:
        """Drop the memory of closed conversations, so that no earlier work is reused; for measurements."""
        self._settle()
        self._memory.forget()

    def shut_down(self) -> None:
        """Free the model's memory, unless something else refers to it."""
        del self.model, self._memory

    # Coroutines, which wait for the steps below; these run in the compute thread.

    async def ask(self, call: Call) -> None:
        """Wait until the engine is done with the call. Raises EngineError."""
        longest = len(call.ids) + (call.sampling.max_new_tokens if call.sampling else len(call.target))
        limit = self._steady_limit
        if limit is not None and longest > limit.tokens:
            raise EngineError(f"{longest} tokens: beyond {limit.tokens}, {limit.reason} change for all tokens")
        call.done = asyncio.get_running_loop().create_future()
        self._arrived.append(call)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
        try:
            await call.done
        finally:
            call.dropped = True

    async def _drive(self) -> None:
        """Run steps as long as there is something to do."""
        while self._arrived or self._live:
            await asyncio.sleep(0)  # answered callers may send more before the next step
            arrived, self._arrived = self._arrived, []
            try:
                finished = await compute.run_async(lambda arrived=arrived: self._step(arrived))  # type: ignore[misc]
            except Exception as error:
                self._fail(arrived, error)
                continue
            for call in finished:
                if call.done is not None and not call.done.done():
                    call.done.set_result(None)

    def _fail(self, arrived: list[Call], error: Exception) -> None:
        """Pass the error to everybody who waits; the slots' content is unknown now."""
        reason = str(error)
        if is_out_of_memory(error):
            reason = f"out of memory with room for {self.seats} conversations; lower rollout.in_flight"
        calls, self._live = {*arrived, *self._live}, []
        self._memory.clear()
        for call in calls:
            if call.done is not None and not call.done.done():
                call.done.set_exception(EngineError(f"the model failed: {reason}"))

    def release(self, seat: int) -> None:
        """Mark a conversation as finished. Its memory is released before the next step; a current one may use it."""
        self._closed.append(seat)

    def _settle(self) -> None:
        """Release what finished conversations occupied."""
        closed, self._closed = self._closed, []
        for seat in closed:
            self._memory.release(seat)

    # Steps.

    @torch.inference_mode()
    def _step(self, arrived: list[Call]) -> list[Call]:
        """Feed the prompts that arrived, and advance everything by one token; return the finished calls."""
        start = time.monotonic()
        self._settle()
        self._live = [call for call in self._live if not call.dropped]
        for call in arrived:
            if not call.dropped:
                call.started_at = time.monotonic()
                call.cached = self._memory.prefill(call)
                call.prefilled = len(call.ids) - call.cached
                self.stats.cached_tokens += call.cached
                self.stats.prefilled_tokens += call.prefilled
                self._live.append(call)
        if self._live:
            self._advance()
        finished = [call for call in self._live if call.finish]
        self._live = [call for call in self._live if not call.finish]
        self.stats.seconds += time.monotonic() - start
        return finished

    def _advance(self) -> None:
        """Feed one token of each live call, and take the token that it predicts."""
        logits = self._memory.advance(self._live)
        tokens = self._choose(logits)
        logprobs = (logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(dim=-1)).tolist()
        for call, token, logprob in zip(self._live, tokens.tolist(), logprobs, strict=True):
            call.logprobs.append(logprob)
            if call.sampling is None:
                self.stats.scored_tokens += 1
            else:
                call.output.append(token)
                self.stats.generated_tokens += 1

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the next token of each live call: drawn, or the target's."""
        tokens = torch.zeros(len(self._live), dtype=torch.long)
        ways: dict[tuple[float, float], list[int]] = {}
        for index, call in enumerate(self._live):
            if call.sampling is None:
                tokens[index] = call.target[len(call.logprobs)]
            else:
                ways.setdefault((call.sampling.temperature, call.sampling.top_p), []).append(index)
        for (temperature, top_p), indices in ways.items():
            calls = [self._live[index] for index in indices]
            noise = torch.stack([call.noise[len(call.output)] for call in calls if call.noise is not None])
            tokens[indices] = draw(logits[indices], noise, temperature, top_p).cpu()
        return tokens.to(logits.device)


class _Seat:
    """See `exsearch.engine.base.Seat`."""

    _numbers = itertools.count()

    def __init__(self, engine: HFEngine) -> None:
        self._engine = engine
        self._number = next(self._numbers)

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        call = Call(self._number, prompt, sampling, uniforms([seed], sampling.max_new_tokens)[0])
        await self._engine.ask(call)
        assert call.finish is not None
        waited = call.started_at - call.submitted_at
        return Completion(call.output, call.logprobs, call.finish, call.prefilled, call.cached, waited)

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        call = Call(self._number, prefix, target=target)
        await self._engine.ask(call)
        return call.logprobs

    def close(self) -> None:
        self._engine.release(self._number)
