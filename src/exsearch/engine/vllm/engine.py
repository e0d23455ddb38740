"""vLLM as an engine, in this process: asynchronous, with prefix caching, on GPU or CPU.

vLLM's prefix cache finds a conversation's earlier turns, and what samples of a question have in common. A target is
scored by forced decoding after the cached prefix (engine/vllm/forcing.py), with the log-probs from before the forcing:
`prompt_logprobs` would compute the whole prefix again.

What a seed draws depends on the batch in which it is computed, as vLLM does not guarantee otherwise.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from exsearch.core.errors import UsageError
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, EngineError, EngineStats, Sampling
from exsearch.engine.models.adapter import check_adapter
from exsearch.engine.spec import EngineSpec
from exsearch.engine.watchdog import watch
from exsearch.processes.children import guard_others

T = TypeVar("T")
FORCING = "exsearch.engine.vllm.forcing:Forcing"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters for which vLLM reserves memory; a rank between two of them uses the larger."""


class VLLMEngine:
    """See `exsearch.engine.base.Engine`. It runs in its own event loop, so that it survives those of callers."""

    scores = True

    def __init__(self, spec: EngineSpec) -> None:
        """Load a checkpoint folder. Raises UsageError if vLLM is not installed, or if an adapter does not fit."""
        adapter, copies = spec.adapter, spec.model.data_parallel or 1
        room = _room(check_adapter(adapter, spec.folder, merged=False)) if adapter is not None else 0
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise UsageError(f"model.engine = vllm needs vLLM: pip install 'exsearch[vllm]' ({error})") from None
        from vllm.platforms import current_platform

        self.fingerprint, self.seats, self.stats = spec.fingerprint, spec.seats, EngineStats()
        # share of a GPU's or of the machine's memory, which copies and other processes need too
        arguments: dict[str, Any] = {"gpu_memory_utilization": 0.85}
        if current_platform.is_cpu():
            # with chunked prefill, a request with a seed crashes the engine on CPUs (its generator has no offset)
            arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(spec.context, 8192)}
            # only full blocks are cached; with the default of 128 tokens, each call would recompute half a block
            arguments |= {"block_size": 32, "gpu_memory_utilization": 0.5 / copies}
        if adapter is not None:
            from vllm.lora.request import LoRARequest

            arguments |= {"enable_lora": True, "max_lora_rank": room}
            self._adapter: Any = LoRARequest("adapter", 1, str(adapter))
        else:
            self._adapter = None
        options = AsyncEngineArgs(
            model=str(spec.folder),
            dtype=str(spec.dtype).removeprefix("torch."),
            max_model_len=spec.context,
            max_num_seqs=spec.seats,
            enable_prefix_caching=True,
            tensor_parallel_size=spec.model.tensor_parallel,
            data_parallel_size=copies,
            disable_log_stats=True,
            logits_processors=[FORCING],
            **arguments,
        )
        if current_platform.is_cpu():
            _require_kernel(options)
        self._watchdog = watch()
        guard_others()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()
        self._engine = asyncio.run_coroutine_threadsafe(_made(AsyncLLM, options), self._loop).result()
        self.context_size = int(self._engine.model_config.max_model_len)
        self._numbers = itertools.count()

    def open(self) -> "VLLMEngine":
        """Return itself: vLLM recognises by its tokens what a prompt continues."""
        return self

    def close(self) -> None:
        """Do nothing: the prefix cache keeps what fits."""

    def forget(self) -> None:
        """Empty the prefix cache, so that no earlier work is reused; for measurements."""
        asyncio.run_coroutine_threadsafe(self._engine.reset_prefix_cache(), self._loop).result()

    def shut_down(self) -> None:
        """Stop vLLM's processes and free their memory."""
        self._watchdog.kill()
        self._watchdog.communicate()
        asyncio.run_coroutine_threadsafe(self._stop_listening(), self._loop).result()
        self._engine.shutdown()
        del self._engine  # at interpreter exit, its finaliser would fail with a message
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _stop_listening(self) -> None:
        """End the task that monitors vLLM's processes, which would log their end as a crash."""
        if self._engine.output_handler is not None:
            self._engine.output_handler.cancel()

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """Continue the prompt; see Seat."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p or 1e-9,
            max_tokens=sampling.max_new_tokens,
            stop_token_ids=sampling.stop_ids,
            ignore_eos=True,
            logprobs=0,
            seed=seed % 2**63,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._elsewhere(self._ask(prompt, parameters))
        result = output.outputs[0]
        cached = output.num_cached_tokens or 0
        self.stats.generated_tokens += len(result.token_ids)
        self._count(len(prompt), cached)
        return Completion(
            list(result.token_ids),
            [entry[token].logprob for token, entry in zip(result.token_ids, result.logprobs, strict=True)],
            "stop" if result.finish_reason == "stop" else "length",
            len(prompt) - cached,
            cached,
        )

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        """Score the target after the prefix; see Seat."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=len(target),
            extra_args={"target": target},
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._elsewhere(self._ask(prefix, parameters))
        result = output.outputs[0]
        if list(result.token_ids) != target:
            raise EngineError("vLLM did not generate the tokens to be scored")
        self.stats.scored_tokens += len(target)
        self._count(len(prefix), output.num_cached_tokens or 0)
        return [float(entry[token].logprob) for token, entry in zip(target, result.logprobs, strict=True)]

    def _count(self, tokens: int, cached: int) -> None:
        self.stats.prefilled_tokens += tokens - cached
        self.stats.cached_tokens += cached

    async def _ask(self, prompt: TokenIds, parameters: Any) -> Any:
        """Return the complete output of one request; runs in the engine's loop."""
        request = {"prompt_token_ids": prompt}, parameters, str(next(self._numbers))
        try:
            outputs = [output async for output in self._engine.generate(*request, lora_request=self._adapter)]
        except Exception as error:
            raise EngineError(f"vLLM failed: {error}") from error
        if not outputs or outputs[-1].outputs[0].finish_reason not in ("stop", "length"):
            raise EngineError("vLLM returned no output")
        return outputs[-1]

    async def _elsewhere(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the engine's loop; cancelling the wait cancels the request."""
        start = time.monotonic()
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))
        finally:
            self.stats.seconds += time.monotonic() - start


async def _made(kind: Any, options: Any) -> Any:
    return kind.from_engine_args(options)


def _require_kernel(options: Any) -> None:
    """Raise UsageError if vLLM has no attention kernel for the model's heads on processors.

    Otherwise it loads such a model, and its engine ends with the first request.
    """
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    model = options.create_model_config()
    size, sizes = model.get_head_size(), CPUAttentionBackend.get_supported_head_sizes()
    if not (model.is_attention_free or model.use_mla or size in sizes):
        raise UsageError(
            f"{options.model}: has attention heads of {size}, and vLLM computes only those of "
            f"{', '.join(map(str, sizes))} on processors; set model.engine = transformers"
        )


def _room(rank: int) -> int:
    """Return the rank to reserve memory for. Raises UsageError if this adapter's rank is too large for vLLM."""
    if rank > RANKS[-1]:
        raise UsageError(f"model.adapter has rank {rank}, and vLLM allows {RANKS[-1]}; merge it into the model")
    return next(size for size in RANKS if size >= rank)
