"""Models that also see images or hear speak without them: of their parts, only that for text is touched."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma4Config,
    Llama4Config,
    Llama4ForConditionalGeneration,
    PreTrainedModel,
)

from exsearch.agent.chat import ChatFormat
from exsearch.config import ModelConfig
from exsearch.engine.batch import logprobs
from exsearch.engine.load import load_engine
from exsearch.engine.models.attention_choice import attention_of, choose_attention
from exsearch.engine.models.checkpoint import load_model
from exsearch.engine.models.limits import windows_of
from exsearch.engine.spec import EngineSpec
from exsearch.training.learners.adapters import add_lora
from exsearch.training.packing.ways import judge_trainer
from family_checks import plain, text
from model_families import FAMILIES


def hearing() -> PreTrainedModel:
    """Return a small Gemma 4 with parts for images and sound; the latter knows no other attention than its own."""
    torch.manual_seed(0)
    seen = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma4Config(
        text_config=FAMILIES["gemma4_text"].config().to_dict() | {"pad_token_id": 0},
        vision_config=seen | {"num_key_value_heads": 2, "head_dim": 16, "patch_size": 14, "output_proj_dims": 32},
        audio_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "output_proj_dims": 32},
        image_token_id=310,
        audio_token_id=311,
        video_token_id=312,
        boi_token_id=313,
        eoi_token_id=314,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float().eval()
    return model


def seeing() -> PreTrainedModel:
    """Return a small Llama 4 with its part for images, which transformers' class for text alone does not know."""
    torch.manual_seed(0)
    seen = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
    config = Llama4Config(
        text_config=FAMILIES["llama4_text"].config().to_dict() | {"pad_token_id": 0},
        vision_config=seen | ends | {"image_size": 28, "patch_size": 14},
        image_token_index=310,
        boi_token_index=311,
        eoi_token_index=312,
    )
    model: PreTrainedModel = Llama4ForConditionalGeneration(config).float().eval()
    return model


def test_only_the_attention_of_text_is_exchanged() -> None:
    model = hearing()
    before = attention_of(model)
    assert before["text_config"] != before["audio_config"] == "eager"
    choose_attention(model, "exsearch_grouped")
    assert attention_of(model) == before | {"": "exsearch_grouped", "text_config": "exsearch_grouped"}
    choose_attention(model, before)
    assert attention_of(model) == before


def test_the_windows_of_other_parts_are_not_those_of_text() -> None:
    assert windows_of(hearing()) == [16], "sound is heard in chunks of 12"


@pytest.mark.parametrize("make", [hearing, seeing])
def test_a_model_is_whole_and_computed_as_transformers_does(
    make: Callable[[], PreTrainedModel], chat: ChatFormat, tmp_path: Path
) -> None:
    whole = make()
    whole.save_pretrained(tmp_path)
    engine = load_engine(EngineSpec(tmp_path, ModelConfig(device="cpu", precision="fp32"), 512, 3), chat)
    starts, ends = [text(90, 1), text(70, 2)], [text(6, 3), text(9, 4)]
    model = load_model(tmp_path, torch.float32)
    assert model.state_dict().keys() == whole.state_dict().keys()
    for start, end, found in zip(starts, ends, logprobs(engine, starts, ends), strict=True):
        expected = plain(model, start + end)
        own = [float(expected[len(start) + number - 1, token]) for number, token in enumerate(end)]
        assert found == pytest.approx(own, abs=1e-4)
    assert judge_trainer(model).path
    add_lora(model, 2)
    adapted = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert adapted and all("language_model" in name for name in adapted)
