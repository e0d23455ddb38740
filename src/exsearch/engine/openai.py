"""Any OpenAI-compatible endpoint as an engine: vLLM, SGLang, llama.cpp, a hosted model.

With `completions` prompts go out as token ids, and what comes back is exact where the server returns token ids and
log-probs (vLLM does, by `return_token_ids`); where it is seen to tell the sampler's log-probs (vLLM's
`processed_logprobs`), those of a completion are asked for as a prompt's are. Otherwise, and always with `chat`, the
server's text is tokenised here: such completions say `exact = False`, and nothing is trained on them unless
retokenising was asked for and the text comes back the same from its tokens. A target is scored by echoed prompt
log-probs, which few servers offer.

Log-probs are asked for by `logprobs: 1`, the chosen token's and the likeliest one's: 0 means the chosen one's alone to
vLLM, but nothing to SGLang where a prompt is echoed. Scores are of the model itself; SGLang samples with log-probs
after temperature and top-p, which are not used.
"""

from pathlib import Path
from typing import Any

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, EngineError, EngineStats, Finish, Sampling
from exsearch.engine.conversation import Conversation
from exsearch.engine.endpoint import BusyError, Endpoint, RefusedError, first_choice, spoken_text
from exsearch.engine.spec import EngineSpec
from exsearch.network.api_key import read_api_key
from exsearch.processes import coroutines

_SECONDS = 600.0
"""Given to an answer."""
_PROBED_TOKENS = 8
_PROBED_TEMPERATURE = 2.0
"""Half of each logit is gone: what is drawn is unlikely to the model, by nats, and much less so to the sampler."""
_PROBED_DIFFERENCE = 0.5
"""In nats; rounding to bfloat16 makes a tenth of it."""


class OpenAIEngine:
    """See `exsearch.engine.base.Engine`."""

    def __init__(self, spec: EngineSpec, chat: Conversation) -> None:
        """Talk to the server that the settings name; ask it what it can do. Raises UsageError, EngineError.

        `thinking` asks a server of chats to let its model think or not, as vLLM and SGLang take it; others refuse it.
        """
        model = spec.model
        key = read_api_key(Path(model.api_key_file)) if model.api_key_file else None
        turns = model.api == "chat"
        self.fingerprint = f"{model.name}@{model.api}"
        self.context_size, self.seats, self.stats = spec.context, spec.seats, EngineStats()
        self._endpoint, self._model, self._api = Endpoint(model.url, key, _SECONDS), model.name, model.api
        self._encode = chat.encode_turn if turns else chat.encode_said
        self._decode = chat.decode_turn if turns else chat.decode
        self._messages = chat.messages
        self._retokenise = model.retokenise
        asks = turns and spec.thinking is not None
        switch = dict.fromkeys(("enable_thinking", "thinking"), spec.thinking) if asks else {}
        self._options = {"chat_template_kwargs": switch} if switch else {}
        self._tells_samplers = False
        """Whether a completion's log-probs are those after temperature and top-p, not the model's own."""
        self.scores = not turns and coroutines.run(self._can_score())
        if self.scores:
            self._tells_samplers = coroutines.run(self._are_samplers())

    def open(self) -> "OpenAIEngine":
        """Return itself: the server finds what a prompt continues, if it can."""
        return self

    def close(self) -> None:
        """Nothing is held between turns."""

    def shut_down(self) -> None:
        """Nothing is held here."""

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """Continue the prompt; see Seat."""
        common = self._common(sampling, seed)
        if self._api == "chat":
            return await self._chat(prompt, common, sampling)
        answer = await self._endpoint.post("completions", common | _in_tokens(prompt, sampling))
        choice, usage = first_choice(answer), answer.get("usage") or {}
        cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        finish: Finish = "stop" if choice.get("finish_reason") == "stop" else "length"
        if ids and logprobs and len(ids) == len(logprobs):
            self._count(len(prompt), cached, len(ids))
            if self._tells_samplers and (sampling.temperature, sampling.top_p) != (1, 1):
                logprobs = await self.logprobs(prompt, ids)
            return Completion(ids, logprobs, finish, len(prompt) - cached, cached)
        said = self._retokenised(choice.get("text"), finish, sampling, len(prompt))
        if said.exact and said.token_ids and self.scores:
            said = msgspec.structs.replace(said, logprobs=await self.logprobs(prompt, said.token_ids), scored=True)
        return said

    def _common(self, sampling: Sampling, seed: int) -> dict[str, Any]:
        """Return what a request says of sampling, whatever the prompt is."""
        return {
            "model": self._model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed % 2**31,
        }

    async def _chat(self, prompt: TokenIds, common: dict[str, Any], sampling: Sampling) -> Completion:
        asked = common | self._options | {"messages": self._messages(prompt)}
        answer = await self._endpoint.post("chat/completions", asked)
        choice = first_choice(answer)
        finish = "stop" if choice.get("finish_reason") == "stop" else "length"
        said = self._retokenised(spoken_text(choice), finish, sampling, len(prompt))
        return _with_usage(said, answer.get("usage") or {})

    def _retokenised(self, text: object, finish: str, sampling: Sampling, prompt: int) -> Completion:
        """Return the tokens that this model's tokenizer makes of a server's text, without log-probs."""
        if not isinstance(text, str):
            raise EngineError(f"{self._endpoint.url}: the answer has no text")
        stop = sampling.stop_ids[:1] if finish == "stop" else []
        ids = (self._encode(text) + stop)[: sampling.max_new_tokens]
        self._count(prompt, 0, len(ids))
        stopped = bool(stop) and ids[-1:] == stop
        exact = self._retokenise and self._decode(ids) == text
        end: Finish = "stop" if stopped else "length"
        return Completion(ids, [0.0] * len(ids), end, prompt, exact=exact, scored=False)

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        """Score the target behind the prefix; see Seat. Raises EngineError if the server has no prompt log-probs."""
        scored = await self._scored(prefix, target)
        if scored is None:
            raise EngineError(f"{self._endpoint.url}: the server returned no log-probs of the prompt")
        self.stats.scored_tokens += len(target)
        return scored

    async def _scored(self, prefix: TokenIds, target: TokenIds) -> list[float] | None:
        """Return the log-probs of the target, None if the answer has none."""
        answer = await self._endpoint.post(
            "completions",
            {"model": self._model, "prompt": prefix + target, "max_tokens": 1, "temperature": 0.0}
            | {"echo": True, "logprobs": 1},
        )
        values = (first_choice(answer).get("logprobs") or {}).get("token_logprobs") or []
        scored = values[len(prefix) : len(prefix) + len(target)]
        return [float(value) for value in scored] if len(scored) == len(target) and None not in scored else None

    async def _can_score(self) -> bool:
        """Return whether the server tells log-probs of a prompt.

        An error means that it does not only where it answers a request without them. Raises UsageError where it answers
        none, such as for a wrong key or name; EngineError where it may later.
        """
        ids = self._encode("one two three")
        try:
            try:
                return await self._scored(ids[:-1], ids[-1:]) is not None
            except RefusedError:
                plain = self._common(Sampling(1, []), 0) | _in_tokens(ids, Sampling(1, []))
                first_choice(await self._endpoint.post("completions", plain))
                return False
        except EngineError as error:
            if isinstance(error, BusyError) or (isinstance(error, RefusedError) and error.for_now):
                raise
            raise UsageError(str(error)) from None

    async def _are_samplers(self) -> bool:
        """Return whether the log-probs of what is sampled differ from those that the same tokens have in a prompt."""
        prompt = self._encode("one two three")
        said = await self.generate(prompt, Sampling(_PROBED_TOKENS, [], _PROBED_TEMPERATURE), 0)
        if not said.exact:
            return False
        scored = await self.logprobs(prompt, said.token_ids)
        return max(abs(told - own) for told, own in zip(said.logprobs, scored, strict=True)) > _PROBED_DIFFERENCE

    def _count(self, prompt: int, cached: int, generated: int) -> None:
        self.stats.prefilled_tokens += prompt - cached
        self.stats.cached_tokens += cached
        self.stats.generated_tokens += generated


def _in_tokens(prompt: TokenIds, sampling: Sampling) -> dict[str, Any]:
    """Return what a request says, beside the usual, so that tokens come and tokens go."""
    return {
        "prompt": prompt,
        "logprobs": 1,
        "return_token_ids": True,
        "stop_token_ids": sampling.stop_ids,
        "ignore_eos": True,
        "skip_special_tokens": False,
    }


def _with_usage(said: Completion, usage: dict[str, Any]) -> Completion:
    """Return the completion with the server's own count of tokens, which is what it charges for, if it tells them."""
    if not usage.get("prompt_tokens"):
        return said
    cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    prefilled, generated = int(usage["prompt_tokens"]) - cached, int(usage.get("completion_tokens") or 0)
    return msgspec.structs.replace(said, prefilled=prefilled, cached=cached, generated=generated)
