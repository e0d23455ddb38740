"""What is trained is the model that speaks: nothing is dropped, shaken, drawn or rescaled on the way."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from exsearch.agent.chat import ChatFormat
from exsearch.config import LearnConfig, ModelConfig
from exsearch.engine.models.merging import merge_checked
from exsearch.engine.models.noise import without_noise
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.learners.adapters import add_lora
from exsearch.training.loss import WeightedLoss
from exsearch.training.packing.rows import line_up
from exsearch.training.packing.tree import grow
from exsearch.training.packing.ways import judge_trainer
from exsearch.training.start import train
from family_checks import text
from model_families import FAMILIES, Family, save_family

NOISY = {
    "phimoe": {"router_jitter_noise": 0.3, "input_jitter_noise": 0.3, "attention_dropout": 0.3},
    "mixtral": {"router_jitter_noise": 0.3, "attention_dropout": 0.3},
    "falcon": {"hidden_dropout": 0.3, "attention_dropout": 0.3},
    "starcoder2": {"embedding_dropout": 0.3, "residual_dropout": 0.3},
    "opt": {"dropout": 0.3, "layerdrop": 0.3},
    "gpt2": {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3},
    "gemma3n_text": {"altup_coef_clip": 0.01},
    "rwkv": {"num_hidden_layers": 5, "rescale_every": 2},
}
"""Families with all that their training would do otherwise than their speaking, read from attributes, configurations,
or whether a layer is in training."""


def noisy(name: str) -> Family:
    family = FAMILIES[name]
    return replace(family, settings=family.settings | NOISY[name])


@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("name", NOISY)
def test_a_model_in_training_says_what_it_says_when_it_speaks(name: str, again: bool) -> None:
    ids = text(40, 1)
    row = torch.tensor([ids])
    speaking = noisy(name).model().eval()
    logprobs = speaking(input_ids=row, use_cache=False).logits[0, :-1].log_softmax(dim=-1)
    expected = -logprobs.gather(1, row[0, 1:, None])[:, 0].sum()
    expected.backward()

    model = noisy(name).model().train()
    if again:
        model.activation_checkpointing_enable()
    without_noise(model)
    packing = judge_trainer(model).path
    loss = WeightedLoss(model, LearnConfig(), packing=packing)  # type: ignore[arg-type]
    loss.train()  # learners do
    example = Example(ids, [1] * len(ids), len(ids))
    found = loss(grow([example]) if packing == "tree" else line_up([example]))[0]
    assert abs(float(found.detach()) - float(expected.detach())) < 1e-3
    found.backward()
    if name == "rwkv":  # which speaks with other weights than it is trained with, and has no other gradient
        return
    wanted = {key: p.grad for key, p in speaking.named_parameters() if p.grad is not None}
    for key, parameter in model.named_parameters():
        if key in wanted:
            assert parameter.grad is not None, key
            assert torch.allclose(parameter.grad, wanted[key], rtol=1e-3, atol=1e-3), key


def test_layers_that_are_computed_again_are_computed_alike() -> None:
    """The mask of a second time would be another one."""
    seen: list[bool] = []
    model = noisy("falcon").model()
    layer = model.transformer.h[0]
    layer.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(layer.training))
    model.activation_checkpointing_enable()
    without_noise(model)
    model(input_ids=torch.tensor([text(9, 1)]), use_cache=False).logits.sum().backward()
    assert seen == [False, False], "once forward, once backward"


def test_weights_that_a_model_rescales_in_evaluation_are_saved_as_they_were(chat: ChatFormat, tmp_path: Path) -> None:
    folder = save_family("rwkv", tmp_path / "model", chat, **NOISY["rwkv"])
    examples = [Example(text(20, n), [0] * 5 + [1] * 15, 15, question_id=str(n)) for n in range(4)]
    settings = LearnConfig(learning_rate=1e-30, validation_share=0.5, weight_decay=0.0)
    cpu = ModelConfig(device="cpu", precision="fp32")
    train(Job.of(folder, examples, tmp_path / "out", settings, cpu, 1, "t"), lambda *_: None)
    before, after = (load_file(one / "model.safetensors") for one in (folder, tmp_path / "out"))
    assert all(torch.allclose(after[name], weight, atol=1e-20) for name, weight in before.items())


def test_adapters_are_merged_into_weights_that_a_model_rescales_in_evaluation() -> None:
    model = noisy("rwkv").model()
    adapted = add_lora(model, 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
    merge_checked(model, adapted.merge_and_unload)
