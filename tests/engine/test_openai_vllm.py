"""vLLM's own server, as an endpoint, says and scores what the transformers engine does. Needs vLLM, takes a minute."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_specs import endpoint_spec, spec
from exsearch.agent.chat import ChatFormat
from exsearch.engine.base import Sampling
from exsearch.engine.batch import generate, logprobs
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.openai.engine import OpenAIEngine

pytestmark = [pytest.mark.slow, pytest.mark.needs("vllm")]
TEXTS = ["What is the capital of France?", "Name three colours.", "Tell me about the sea. " * 30]
SECONDS = 300
"""To wait for the server."""


@pytest.fixture(scope="module")
def url(builtin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # chunked prefill is off because a request with a seed stops vLLM's engine on a processor otherwise
    words = ["--model", str(builtin), "--served-model-name", "smollm2", "--dtype", "float32", "--max-model-len", "1024"]
    words += ["--host", "127.0.0.1", "--port", str(port), "--no-enable-chunked-prefill"]
    words += ["--max-num-batched-tokens", "8192", "--gpu-memory-utilization", "0.3"]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        for _ in range(SECONDS):
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(1)
        else:
            pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=60)


def connect(url: str, chat: ChatFormat, api: str) -> OpenAIEngine:
    return OpenAIEngine(endpoint_spec(url, "smollm2", api=api), chat)


def test_completions_are_exact_and_those_of_transformers(url: str, builtin: Path, chat: ChatFormat) -> None:
    own = HFEngine.load(spec(builtin, 4))
    remote = connect(url, chat, "completions")
    prompts = [chat.first_prompt(text) for text in TEXTS]
    sampling = Sampling(12, [chat.stop_id], temperature=0.0)
    found, expected = (generate(engine, prompts, sampling, [1, 2, 3]) for engine in (remote, own))
    assert all(completion.exact for completion in found)
    assert [(c.token_ids, c.finish) for c in found] == [(c.token_ids, c.finish) for c in expected]
    for mine, its in zip(found, expected, strict=True):
        assert mine.logprobs == pytest.approx(its.logprobs, abs=1e-2)
    targets = [[*chat.encode(text), chat.stop_id] for text in ("Paris", "Red, green and blue.", "It is deep.")]
    for mine, its in zip(logprobs(remote, prompts, targets), logprobs(own, prompts, targets), strict=True):
        assert mine == pytest.approx(its, abs=1e-3)


def test_chat_says_that_its_tokens_are_made_here(url: str, chat: ChatFormat) -> None:
    remote = connect(url, chat, "chat")
    prompt = chat.first_prompt(TEXTS[0])
    [said] = generate(remote, [prompt], Sampling(12, [chat.stop_id], temperature=0.0), [1])
    assert not remote.scores and not said.exact
    assert "Paris" in chat.decode(said.token_ids)
