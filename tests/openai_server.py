"""An OpenAI-compatible server around an engine of this project, with as little of the protocol as a test asks for."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from exsearch.agent.chat import ChatFormat
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, Sampling
from exsearch.engine.hf.engine import HFEngine
from scripted_server import Asked, Reply, serving


class Endpoint:
    """`ids` returns token ids and log-probs, `scores` echoes log-probs of prompts; `fails` is a list of statuses.

    It answers as vLLM does, which takes `logprobs: 0` for the chosen token's alone; SGLang takes it for none of the
    prompt, and tells no token ids.

    `tempered` returns log-probs as of the sampler, which temperature has changed.
    """

    def __init__(
        self,
        engine: HFEngine,
        chat: ChatFormat,
        ids: bool = True,
        scores: bool = True,
        fails: list[int] | None = None,
        sglang: bool = False,
        tempered: bool = False,
    ) -> None:
        self.sglang = sglang
        self.engine, self.chat, self.ids, self.scores = engine, chat, ids, scores
        self.fails, self.tempered = fails or [], tempered
        self.asked: list[dict[str, object]] = []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def answer(self, path: str, body: dict[str, object]) -> tuple[int, object]:
        self.asked.append(body)
        if self.fails:
            return self.fails.pop(0), {"error": "not now"}
        if path.endswith("/chat/completions"):
            prompt = self._rendered(body["messages"])  # type: ignore[arg-type]
            said = self._generate(prompt, body)
            message = {"role": "assistant", "content": self.chat.decode(said.token_ids)}
            return 200, {"choices": [{"message": message, "finish_reason": said.finish}]}
        prompt: TokenIds = body["prompt"]  # type: ignore[no-redef,assignment]
        if body.get("echo"):
            if not self.scores:
                return 400, {"error": "echo is not supported"}
            if self.sglang and not body["logprobs"]:
                return 200, {"choices": [{"logprobs": {"token_logprobs": [-1.0]}}]}
            values = self._run(self._seat_logprobs(prompt[:1], prompt[1:]))
            return 200, {"choices": [{"logprobs": {"token_logprobs": [None, *values, -1.0]}}]}
        said = self._generate(prompt, body)
        choice: dict[str, object] = {"text": self.chat.decode(said.token_ids), "finish_reason": said.finish}
        if self.ids and not self.sglang:
            divisor = float(body["temperature"]) if self.tempered else 1.0  # type: ignore[arg-type]
            told = [value / divisor for value in said.logprobs]
            choice |= {"token_ids": said.token_ids, "logprobs": {"token_logprobs": told}}
        return 200, {"choices": [choice], "usage": {"prompt_tokens_details": {"cached_tokens": 3}}}

    def _rendered(self, messages: list[dict[str, str]]) -> TokenIds:
        assert [message["role"] for message in messages] == [("user", "assistant")[n % 2] for n in range(len(messages))]
        text = self.chat.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self.chat.tokenizer(text).input_ids  # type: ignore[no-any-return]

    def _generate(self, prompt: TokenIds, body: dict[str, object]) -> Completion:
        sampling = Sampling(int(body["max_tokens"]), [self.chat.stop_id], float(body["temperature"]))  # type: ignore[call-overload,arg-type]
        return self._run(self._seat_generate(prompt, sampling, int(body["seed"])))  # type: ignore[no-any-return,call-overload]

    async def _seat_generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        seat = self.engine.open()
        try:
            return await seat.generate(prompt, sampling, seed)
        finally:
            seat.close()

    async def _seat_logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        seat = self.engine.open()
        try:
            return await seat.logprobs(prefix, target)
        finally:
            seat.close()

    def _run(self, call):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(60)


@contextmanager
def running(endpoint: Endpoint) -> Iterator[str]:
    """Serve the endpoint; yield its URL."""

    def reply(asked: Asked) -> Reply:
        status, answer = endpoint.answer(asked[1], asked[2])
        return status, {}, json.dumps(answer).encode()

    with serving(reply) as server:
        yield f"http://{server.address}/v1"
