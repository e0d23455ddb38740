"""A LoRA adapter is put on a model whole, or refused by the names of what does not fit, before any work is done."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from engine_specs import spec
from exsearch.agent.agents import load_agents
from exsearch.agent.experiment import Experiment
from exsearch.config import ModelConfig, TrainingConfig, parse_config
from exsearch.core.errors import UsageError
from exsearch.engine.base import Sampling
from exsearch.engine.batch import generate
from exsearch.engine.copies.engine import CopiedEngine
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.load import load_engine
from exsearch.engine.models.adapter import SETTINGS, WEIGHTS, check_adapter
from exsearch.engine.spec import EngineSpec
from exsearch.engine.vllm.engine import VLLMEngine
from exsearch.training.job import Job
from exsearch.training.start import train
from tiny_models import tiny_llama

Tensors = dict[str, torch.Tensor]
PROMPT = [[5, 6, 7, 8]]
GREEDY = Sampling(8, [], 0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    tiny_llama(spread=0.4).save_pretrained(folder)
    return folder


def save_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """Write an adapter with an effect on the model."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    chosen = {"r": 4, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    tuned = get_peft_model(model, LoraConfig(**chosen | settings))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    tuned.save_pretrained(folder)
    return folder


def changed(adapter: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """Write the adapter with other weights."""
    shutil.copytree(adapter, folder)
    save_file(change(load_file(adapter / WEIGHTS)), folder / WEIGHTS)
    return folder


def with_settings(adapter: Path, folder: Path, **settings: Any) -> Path:
    """Write the adapter with other settings."""
    shutil.copytree(adapter, folder)
    content = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(content | settings))
    return folder


def other_prefix(weights: Tensors) -> Tensors:
    return {name.replace(".model.model.", ".model.model.language_model."): t for name, t in weights.items()}


def half(weights: Tensors) -> Tensors:
    return {name: tensor for name, tensor in weights.items() if "layers.1." not in name}


def deeper(weights: Tensors) -> Tensors:
    return weights | {
        name.replace("layers.1.", "layers.9."): t.clone() for name, t in weights.items() if "layers.1." in name
    }


def other_rank(weights: Tensors) -> Tensors:
    return {name: t[:2].clone() if "0.self_attn.q_proj.lora_A" in name else t for name, t in weights.items()}


MISFITS = [
    (other_prefix, "unknown to the model: base_model.model.model.language_model.layers.0.mlp.down_proj.lora_A.weight"),
    (half, "missing: base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"),
    (deeper, "unknown to the model: base_model.model.model.layers.9.mlp.down_proj.lora_A.weight"),
    (other_rank, r"layers.0.self_attn.q_proj.lora_A.weight is \[2, 32\], not \[4, 32\]"),
]


@pytest.mark.parametrize(("change", "named"), MISFITS, ids=[change.__name__ for change, _ in MISFITS])
def test_an_adapter_that_does_not_fit_is_refused_by_name_in_every_engine(
    base: Path, tmp_path: Path, change: Callable[[Tensors], Tensors], named: str
) -> None:
    adapter = changed(save_adapter(base, tmp_path / "ok"), tmp_path / "adapter", change)
    loaders: list[Callable[[], object]] = [
        lambda: HFEngine.load(spec(base, 2, adapter=adapter)),
        lambda: CopiedEngine(spec(base, 2, adapter=adapter), 2),
        lambda: VLLMEngine(spec(base, 2, context=64, adapter=adapter)),
    ]
    for load in loaders:
        with pytest.raises(UsageError, match=named) as refused:
            load()
        assert str(refused.value).startswith(f"{adapter}: the adapter does not fit the model {base}")


def test_an_adapter_that_fits_changes_what_the_model_says(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(base, tmp_path / "adapter")
    [plain], [adapted] = (
        generate(HFEngine.load(spec(base, 2, adapter=chosen)), PROMPT, GREEDY, [0]) for chosen in (None, adapter)
    )
    assert plain.token_ids != adapted.token_ids
    assert check_adapter(adapter, base) == check_adapter(adapter, base, merged=False) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.self_attn\.(q|k)_proj"},
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 5}},
        {"use_rslora": True},
        {"use_dora": True},
        {"bias": "all"},
        {"init_lora_weights": "pissa"},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"trainable_token_indices": [1, 2, 3]},
    ],
    ids=str,
)
def test_all_that_peft_saves_for_a_model_fits_it(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = save_adapter(base, tmp_path / "adapter", **settings)
    assert check_adapter(adapter, base) == 4


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 5}}, "alpha_pattern"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens.base_layer.weight"),
    ],
    ids=str,
)
def test_what_an_engine_that_does_not_merge_would_leave_out_is_refused_by_name(
    base: Path, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    adapter = save_adapter(base, tmp_path / "adapter", **settings)
    with pytest.raises(UsageError, match=named):
        VLLMEngine(spec(base, 2, context=64, adapter=adapter))


def test_a_module_that_the_adapter_was_to_bring_and_does_not_is_missed(base: Path, tmp_path: Path) -> None:
    whole = save_adapter(base, tmp_path / "whole", modules_to_save=["lm_head"])
    adapter = changed(whole, tmp_path / "adapter", lambda w: {n: t for n, t in w.items() if "lm_head" not in n})
    with pytest.raises(UsageError, match=r"missing: base_model.model.lm_head.weight\)"):
        check_adapter(adapter, base)


@pytest.mark.parametrize("key", ["target_modules", "modules_to_save"])
def test_a_listed_layer_that_the_model_lacks_is_refused_by_name(base: Path, tmp_path: Path, key: str) -> None:
    whole = save_adapter(base, tmp_path / "whole")
    listed = [*(["q_proj", "v_proj", "down_proj"] if key == "target_modules" else []), "router"]
    adapter = with_settings(whole, tmp_path / "adapter", **{key: listed})
    with pytest.raises(UsageError, match=rf"lacks layers that {key} in .* lists \(absent: router\)"):
        check_adapter(adapter, base)


@pytest.mark.parametrize("layers", [[0, 1, 7], 7])
def test_a_layer_by_a_number_that_the_model_lacks_is_refused(base: Path, tmp_path: Path, layers: object) -> None:
    whole = save_adapter(base, tmp_path / "whole", layers_to_transform=[0, 1])
    assert check_adapter(whole, base) == 4
    with pytest.raises(UsageError, match=r"absent: 7\)|does not fit the model"):
        check_adapter(with_settings(whole, tmp_path / "adapter", layers_to_transform=layers), base)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(base: Path, tmp_path: Path, value: float) -> None:
    def stray(weights: Tensors) -> Tensors:
        return {name: t.fill_(value) if "1.self_attn.q_proj.lora_B" in name else t for name, t in weights.items()}

    adapter = changed(save_adapter(base, tmp_path / "whole"), tmp_path / "adapter", stray)
    for merged in (True, False):
        with pytest.raises(UsageError, match=r"not finite \(.*layers\.1\.self_attn\.q_proj\.lora_B\.weight\)"):
            check_adapter(adapter, base, merged)


def test_an_adapter_that_is_scaled_to_nothing_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(base, tmp_path / "adapter", lora_alpha=0)
    with pytest.raises(
        UsageError, match=r"lora_alpha is 0 in its adapter_config\.json, so the adapter changes nothing"
    ):
        check_adapter(adapter, base)


def test_targets_of_which_the_model_has_none_are_refused(base: Path, tmp_path: Path) -> None:
    whole = save_adapter(base, tmp_path / "whole")
    for number, pattern in enumerate([r".*\.router", "(("]):
        adapter = with_settings(whole, tmp_path / f"adapter-{number}", target_modules=pattern)
        with pytest.raises(UsageError, match="does not fit the model"):
            check_adapter(adapter, base)


def test_an_adapter_of_a_model_of_another_size_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    wide = tiny_llama(vocabulary=120)
    wide.save_pretrained(tmp_path / "wide")
    adapter = save_adapter(tmp_path / "wide", tmp_path / "adapter", modules_to_save=["lm_head"])
    with pytest.raises(UsageError, match=r"lm_head.weight is \[120, 32\], not \[97, 32\]"):
        check_adapter(adapter, base)


def test_adapters_on_experts_are_read_under_their_old_names_and_under_the_new_ones(tmp_path: Path) -> None:
    config = MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "base")
    new = save_adapter(tmp_path / "base", tmp_path / "new", target_modules=["q_proj", "w1", "w2", "w3"])
    assert check_adapter(new, tmp_path / "base") == 4

    def old_names(weights: Tensors) -> Tensors:
        renamed = {name: tensor for name, tensor in weights.items() if "q_proj" in name}
        for expert in range(2):
            for name, (out, into) in {"w1": (48, 32), "w2": (32, 48), "w3": (48, 32)}.items():
                layer = f"base_model.model.model.layers.0.block_sparse_moe.experts.{expert}.{name}"
                renamed |= {f"{layer}.lora_A.weight": torch.ones(4, into), f"{layer}.lora_B.weight": torch.ones(out, 4)}
        return renamed

    targets = ["q_proj", "w1", "w2", "w3"]
    plain = with_settings(
        new, tmp_path / "plain", target_modules=targets, target_parameters=None, rank_pattern={}, alpha_pattern={}
    )
    old = changed(plain, tmp_path / "old", old_names)
    assert check_adapter(old, tmp_path / "base") == 4
    torn = changed(old, tmp_path / "torn", lambda w: {n: t for n, t in w.items() if "experts.1.w2" not in n})
    with pytest.raises(UsageError, match="does not fit the model"):
        check_adapter(torn, tmp_path / "base")


def test_other_kinds_and_other_files_are_refused_by_name(base: Path, tmp_path: Path) -> None:
    whole = save_adapter(base, tmp_path / "whole")
    with pytest.raises(UsageError, match="an adapter of kind IA3; only those of kind LORA"):
        check_adapter(with_settings(whole, tmp_path / "ia3", peft_type="IA3"), base)
    pickled = shutil.copytree(whole, tmp_path / "pickled")
    (pickled / WEIGHTS).rename(pickled / "adapter_model.bin")
    with pytest.raises(UsageError, match=r"an adapter without adapter_model\.safetensors"):
        check_adapter(pickled, base)
    torn = shutil.copytree(whole, tmp_path / "torn")
    (torn / WEIGHTS).write_bytes((whole / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"adapter_model\.safetensors: damaged"):
        check_adapter(torn, base)
    with pytest.raises(UsageError, match=r"not an adapter folder, it has no adapter_config\.json"):
        check_adapter(base, base)


def test_an_adapter_that_does_not_fit_is_refused_before_a_cluster_is_asked(base: Path, tmp_path: Path) -> None:
    adapter = changed(save_adapter(base, tmp_path / "ok"), tmp_path / "adapter", half)
    tree = {"model": {"adapter": str(adapter)}, "rollout": {"ray": "10.0.0.1:6379"}}
    with pytest.raises(UsageError, match=r"the adapter does not fit the model .*missing: "):
        load_agents(Experiment(parse_config(tree, [], "test")).with_model(base))


def test_an_adapter_is_refused_where_it_would_not_be_used(base: Path, tmp_path: Path) -> None:
    adapter = str(save_adapter(base, tmp_path / "adapter"))
    endpoint = ModelConfig(engine="openai", url="http://127.0.0.1:1/v1", name="m", adapter=adapter)
    with pytest.raises(UsageError, match="an endpoint has its own"):
        load_engine(EngineSpec(base, endpoint, 64, 2), None)  # type: ignore[arg-type]
    settings, out = ModelConfig(adapter=adapter), tmp_path / "out"
    with pytest.raises(UsageError, match=r"model\.adapter is for answering"):
        train(Job.of(base, [], out, TrainingConfig(), settings, 0, "learn"), log=lambda step, figures: None)
