"""vLLM as an engine says and scores what the transformers engine does. Needs an environment with vLLM."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine_specs import spec
from exsearch.agent.chat import ChatFormat
from exsearch.core.errors import UsageError
from exsearch.engine.base import Sampling
from exsearch.engine.batch import generate, logprobs
from exsearch.engine.hf.engine import HFEngine
from tiny_models import save_tiny

pytestmark = [pytest.mark.slow, pytest.mark.needs("vllm")]
TEXTS = ["What is the capital of France?", "Name three colours.", "Tell me about the sea. " * 30]


@pytest.fixture(scope="module")
def adapter(builtin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that changes what the model says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(builtin, dtype=torch.float32)
    targets = ["q_proj", "v_proj", "down_proj"]
    tuned = get_peft_model(model, LoraConfig(r=8, target_modules=targets, init_lora_weights=False))
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data *= 0.3
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "lora"])
def engines(request: pytest.FixtureRequest, builtin: Path, adapter: Path) -> Iterator[tuple[object, HFEngine]]:
    from exsearch.engine.vllm.engine import VLLMEngine

    lora = adapter if request.param else None
    engine = VLLMEngine(spec(builtin, 8, context=1024, adapter=lora))
    yield engine, HFEngine.load(spec(builtin, 8, adapter=lora))
    engine.shut_down()


def prompts(chat: ChatFormat) -> list[list[int]]:
    return [chat.first_prompt(text) for text in TEXTS]


def test_greedy_tokens_and_logprobs_are_those_of_transformers(engines: tuple, chat: ChatFormat) -> None:  # type: ignore[type-arg]
    vllm, own = engines
    sampling = Sampling(12, [chat.stop_id], temperature=0.0)
    found, expected = (generate(engine, prompts(chat), sampling, [1, 2, 3]) for engine in (vllm, own))
    assert [(c.token_ids, c.finish) for c in found] == [(c.token_ids, c.finish) for c in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-2)


def test_scores_are_those_of_transformers_and_use_the_cache(engines: tuple, chat: ChatFormat) -> None:  # type: ignore[type-arg]
    vllm, own = engines
    targets = [[*chat.encode(text), chat.stop_id] for text in ("Paris", "Red, green and blue.", "It is deep.")]
    generate(vllm, prompts(chat), Sampling(2, [], 0.0), [0, 0, 0])
    cached = vllm.stats.cached_tokens
    for a, b in zip(logprobs(vllm, prompts(chat), targets), logprobs(own, prompts(chat), targets), strict=True):
        assert a == pytest.approx(b, abs=1e-3)
    assert vllm.stats.cached_tokens > cached


def test_a_seed_draws_the_same_and_another_something_else(engines: tuple, chat: ChatFormat) -> None:  # type: ignore[type-arg]
    vllm, _ = engines
    sampling = Sampling(16, [], temperature=1.0, top_p=0.95)
    [first], [again], [other] = (generate(vllm, prompts(chat)[:1], sampling, [seed]) for seed in (7, 7, 8))
    assert first.token_ids == again.token_ids != other.token_ids
    [scored] = logprobs(vllm, prompts(chat)[:1], [first.token_ids])
    assert first.logprobs == pytest.approx(scored, abs=1e-3), "log-probs are the model's own, not the sampler's"


def test_a_model_whose_heads_vllm_has_no_kernel_for_is_refused_before_it_is_loaded(
    chat: ChatFormat, tmp_path: Path
) -> None:
    from exsearch.engine.vllm.engine import VLLMEngine

    if torch.cuda.is_available():
        pytest.skip("GPUs have other kernels")
    folder = save_tiny(tmp_path / "model", chat, head_size=8)
    with pytest.raises(
        UsageError, match=r"has attention heads of 8, .* those of 32, 64, .*model.engine = transformers"
    ):
        VLLMEngine(spec(folder, 2, context=512))
