"""Any OpenAI-compatible endpoint as an engine: vLLM, SGLang, llama.cpp, a hosted model.

With `completions`, prompts are sent as token ids, and results are exact if the server returns token ids and log-probs
(vLLM does, with `return_token_ids`). If a test shows that it returns the sampler's log-probs (vLLM's
`processed_logprobs`), log-probs of a completion are requested like those of a prompt. Otherwise, and always with
`chat`, the server's text is tokenised here: such completions have `exact = False`, and are not trained on, unless
retokenising is set and the tokens decode to the same text. A target is scored by echoed prompt log-probs, which few
servers offer.

Log-probs are requested with `logprobs: 1` (the chosen token and the most likely one). `logprobs: 0` would suffice for
vLLM, where it means the chosen token only, but SGLang returns none for it if a prompt is echoed. Scores are of the
model itself; SGLang samples with log-probs after temperature and top-p, which are not used.
"""

from pathlib import Path
from typing import Any

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, EngineError, EngineStats, Finish, Sampling
from exsearch.engine.conversation import Conversation
from exsearch.engine.openai.endpoint import BusyError, Endpoint, RefusedError, first_choice, spoken_text
from exsearch.engine.spec import EngineSpec
from exsearch.network.api_key import read_api_key
from exsearch.processes import coroutines

_SECONDS = 600.0
"""Maximum time of an answer."""
_PROBED_TOKENS = 8
_PROBED_TEMPERATURE = 2.0
"""Temperature of the test: halves each logit, so a draw is less likely to the model than to the sampler, by nats."""
_PROBED_DIFFERENCE = 0.5
"""Difference in nats that identifies the sampler's log-probs; rounding to bfloat16 makes a tenth of it."""


class OpenAIEngine:
    """See `exsearch.engine.base.Engine`."""

    def __init__(self, spec: EngineSpec, chat: Conversation) -> None:
        """Connect to the server that the settings name, and test its features. Raises UsageError and EngineError.

        `thinking` tells a chat server whether its model may think, in the form of vLLM and SGLang; other servers reject
        it.
        """
        model = spec.model
        key = read_api_key(Path(model.api_key_file)) if model.api_key_file else None
        turns = model.api == "chat"
        self.fingerprint = f"{model.name}@{model.api}"
        self.context_size, self.seats, self.stats = spec.context, spec.seats, EngineStats()
        self._endpoint, self._model, self._api = Endpoint(model.url, key, _SECONDS), model.name, model.api
        self._encode = chat.encode_turn if turns else chat.encode_completion
        self._decode = chat.decode_turn if turns else chat.decode
        self._messages = chat.messages
        self._retokenise = model.retokenise
        asks = turns and spec.thinking is not None
        switch = dict.fromkeys(("enable_thinking", "thinking"), spec.thinking) if asks else {}
        self._options = {"chat_template_kwargs": switch} if switch else {}
        self._tells_samplers = False
        """Whether a completion's log-probs are those after temperature and top-p, rather than the model's own."""
        self.scores = not turns and coroutines.run(self._can_score())
        if self.scores:
            self._tells_samplers = coroutines.run(self._are_samplers())

    def open(self) -> "OpenAIEngine":
        """Return itself: the server recognises what a prompt continues, if it can."""
        return self

    def close(self) -> None:
        """Do nothing: nothing is kept between turns."""

    def shut_down(self) -> None:
        """Do nothing: nothing is kept here."""

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
        completion = self._retokenised(choice.get("text"), finish, sampling, len(prompt))
        if completion.exact and completion.token_ids and self.scores:
            completion = msgspec.structs.replace(
                completion, logprobs=await self.logprobs(prompt, completion.token_ids), scored=True
            )
        return completion

    def _common(self, sampling: Sampling, seed: int) -> dict[str, Any]:
        """Return the sampling parameters of a request, whatever the prompt is."""
        return {
            "model": self._model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed % 2**31,
        }

    async def _chat(self, prompt: TokenIds, common: dict[str, Any], sampling: Sampling) -> Completion:
        body = common | self._options | {"messages": self._messages(prompt)}
        answer = await self._endpoint.post("chat/completions", body)
        choice = first_choice(answer)
        finish = "stop" if choice.get("finish_reason") == "stop" else "length"
        completion = self._retokenised(spoken_text(choice), finish, sampling, len(prompt))
        return _with_usage(completion, answer.get("usage") or {})

    def _retokenised(self, text: object, finish: str, sampling: Sampling, prompt: int) -> Completion:
        """Return the tokens of a server's text by this model's tokenizer, without log-probs."""
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
        """Score the target after the prefix; see Seat. Raises EngineError if the server has no prompt log-probs."""
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
        """Return whether the server returns log-probs of a prompt.

        An error means that it does not only if the server answers the same request without them. Raises UsageError if
        it answers neither, as for a wrong key or name; EngineError if it may answer later.
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
        """Return whether log-probs of sampled tokens differ from those of the same tokens in a prompt."""
        prompt = self._encode("one two three")
        completion = await self.generate(prompt, Sampling(_PROBED_TOKENS, [], _PROBED_TEMPERATURE), 0)
        if not completion.exact:
            return False
        scored = await self.logprobs(prompt, completion.token_ids)
        return (
            max(abs(returned - own) for returned, own in zip(completion.logprobs, scored, strict=True))
            > _PROBED_DIFFERENCE
        )

    def _count(self, prompt: int, cached: int, generated: int) -> None:
        self.stats.prefilled_tokens += prompt - cached
        self.stats.cached_tokens += cached
        self.stats.generated_tokens += generated


def _in_tokens(prompt: TokenIds, sampling: Sampling) -> dict[str, Any]:
    """Return the additional parameters of a request for sending and receiving token ids."""
    return {
        "prompt": prompt,
        "logprobs": 1,
        "return_token_ids": True,
        "stop_token_ids": sampling.stop_ids,
        "ignore_eos": True,
        "skip_special_tokens": False,
    }


def _with_usage(completion: Completion, usage: dict[str, Any]) -> Completion:
    """Return the completion with the server's own count of tokens, which it charges for, if it returns one."""
    if not usage.get("prompt_tokens"):
        return completion
    cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    prefilled, generated = int(usage["prompt_tokens"]) - cached, int(usage.get("completion_tokens") or 0)
    return msgspec.structs.replace(completion, prefilled=prefilled, cached=cached, generated=generated)
