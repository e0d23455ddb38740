"""What a model cannot do is said before any work: longer texts than it takes, or losses of what it has already seen."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, PreTrainedModel

from exsearch.agent.chat import ChatFormat
from exsearch.config import AgentConfig, LearnConfig, ModelConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.engine.batch import logprobs
from exsearch.engine.hf.paths import judge_engine
from exsearch.engine.load import load_engine
from exsearch.engine.models.checkpoint import load_model
from exsearch.engine.models.limits import steady_limit
from exsearch.engine.models.probe import ModelVerdict, judge, remembered, require_path
from exsearch.engine.spec import EngineSpec
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.packing.ways import judge_trainer
from exsearch.training.start import train
from exsearch.warmup.write import within_context
from family_checks import plain, text
from model_families import FAMILIES, rope, save_family

CPU = ModelConfig(device="cpu", precision="fp32")


def bert(is_decoder: bool) -> PreTrainedModel:
    """Return a small model that sees a whole text, or as a decoder only what is before a token."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    config = BertConfig(vocab_size=320, is_decoder=is_decoder, initializer_range=0.2, **sizes)  # type: ignore[arg-type]
    return BertLMHeadModel(config).eval()


def bidirectional_gemma() -> PreTrainedModel:
    family = FAMILIES["gemma3_text"]
    return replace(family, settings=family.settings | {"use_bidirectional_attention": True}).model()


@pytest.mark.parametrize("model", [bert(is_decoder=False), bidirectional_gemma()], ids=["bert", "gemma3"])
def test_a_model_that_sees_what_follows_a_token_is_refused(model: PreTrainedModel) -> None:
    for verdict in (judge_engine(model), judge_trainer(model)):
        assert not verdict.path, "its loss on a text would be that of copying it"
    with pytest.raises(UsageError, match=r"the trainer .* any packing: its output at a token depends on later tokens"):
        require_path(judge_trainer(model), "the trainer")


def test_the_same_model_is_taken_as_a_decoder() -> None:
    assert judge_engine(bert(is_decoder=True)).path
    assert judge_trainer(bert(is_decoder=True)).path


def test_a_refusal_without_a_figure_is_the_same_when_it_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def difference(path: str) -> float:
        if path == "slots":
            raise RuntimeError("list index out of range")
        return math.inf

    def make() -> ModelVerdict:
        return judge(["slots", "pieces"], 1e-4, difference)

    def explode() -> ModelVerdict:
        raise AssertionError("tried again")

    told = []
    for again in (make, explode):
        with pytest.raises(UsageError, match="the engine cannot compute this model: slots: RuntimeError") as raised:
            require_path(remembered("engine", "some model", again), "the engine")
        told.append(str(raised.value))
    assert told[0] == told[1]


def test_dynamic_positions_change_beyond_the_length_that_transformers_goes_by() -> None:
    """Which is the model's, whatever its settings call the original length."""
    settings = {"max_position_embeddings": 64} | rope("dynamic", factor=4.0, original_max_position_embeddings=512)
    family = replace(FAMILIES["llama3"], settings=settings)
    limit = steady_limit(family.config())
    assert limit is not None and limit.tokens == 64
    ids, model = text(66, 1), family.model()
    before = plain(model, ids[:64])
    assert float((plain(model, ids)[:64] - before).abs().max()) > 0.01


def test_a_model_that_chooses_the_tokens_it_attends_to_is_taken_up_to_as_many(chat: ChatFormat, tmp_path: Path) -> None:
    """Beyond, which ones it chooses of those that it likes equally depends on how many there are."""
    folder = save_family("doge", tmp_path / "model", chat, keep_window_size=128)
    with pytest.raises(UsageError, match=r"agent.context = 129: beyond 128 .* attends to \(keep_window_size\)"):
        load_engine(EngineSpec(folder, CPU, 129, 2), chat)
    engine = load_engine(EngineSpec(folder, CPU, 128, 2), chat)
    with pytest.raises(ExSearchError, match="129 tokens: beyond 128"):
        logprobs(engine, [text(120, 1)], [text(9, 2)])
    ids = text(128, 1)
    expected = plain(load_model(folder, torch.float32), ids)
    [found] = logprobs(engine, [ids[:100]], [ids[100:]])
    worst = max(abs(float(expected[99 + n, ids[100 + n]]) - value) for n, value in enumerate(found))
    assert worst < 1e-4
    with pytest.raises(UsageError, match="an example has 129 tokens: beyond 128"):
        train(
            Job.of(folder, [Example(text(129, 1), [1] * 129, 9)], tmp_path / "out", LearnConfig(), CPU, 1, "t"), print
        )


def test_an_example_longer_than_the_model_is_refused_before_training(chat: ChatFormat, tmp_path: Path) -> None:
    folder = save_family("gpt2", tmp_path / "model", chat, max_position_embeddings=64, n_positions=64)

    def learn(length: int) -> None:
        examples = [Example(text(length, 1), [0] * 9 + [1] * (length - 9), length - 5)]
        train(Job.of(folder, examples, tmp_path / "out", LearnConfig(), CPU, 1, "t"), lambda *_: None)

    with pytest.raises(
        UsageError, match=r"an example has 65 tokens, but the model was trained for 64; .* agent.context"
    ):
        learn(65)
    assert not (tmp_path / "out").exists()
    learn(64)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_what_is_written_for_a_model_to_learn_fits_into_it(chat: ChatFormat, tmp_path: Path) -> None:
    folder = save_family("gpt2", tmp_path / "model", chat, max_position_embeddings=64, n_positions=64)
    assert within_context(AgentConfig(), folder).context == 64
    assert within_context(AgentConfig(context=50), folder).context == 50
    unlimited = save_family("mamba2", tmp_path / "unlimited", chat)
    assert within_context(AgentConfig(), unlimited).context == AgentConfig().context
