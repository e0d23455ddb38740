"""A checkpoint is loaded whole, or refused by the names of the weights that it lacks or has too many."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from engine_specs import spec
from exsearch.config import TrainingConfig
from exsearch.core.checkpoint import load_whole, require_whole
from exsearch.core.errors import UsageError
from exsearch.engine.copies.engine import CopiedEngine
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.models.builtin import resolve_model
from exsearch.retrieval.encoders.load import load_checkpoint
from exsearch.training.trainer import load_for_training
from model_families import FAMILIES
from tiny_encoders import save_colbert, save_plain
from tiny_models import tiny_llama

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    tiny_llama().save_pretrained(folder)
    return folder


def changed(source: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """Write the checkpoint with other weights."""
    shutil.copytree(source, folder)
    weights = change(load_file(source / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def half(weights: Tensors) -> Tensors:
    return {name: tensor for name, tensor in weights.items() if "layers.1." not in name}


def deeper(weights: Tensors) -> Tensors:
    return weights | {
        name.replace("layers.1.", "layers.9."): t.clone() for name, t in weights.items() if "layers.1." in name
    }


def other_prefix(weights: Tensors) -> Tensors:
    return {name.replace("model.", "language."): tensor for name, tensor in weights.items()}


def narrower(weights: Tensors) -> Tensors:
    return {name: t[:16].clone() if "layers.1.self_attn.q_proj" in name else t for name, t in weights.items()}


def without_embeddings(weights: Tensors) -> Tensors:
    return {name: tensor for name, tensor in weights.items() if "embed_tokens" not in name}


MISFITS = [
    (half, r"missing: model.layers.1.input_layernorm.weight, .* and 6 more\)"),
    (deeper, r"unknown to the model: model.layers.9.input_layernorm.weight, .* and 6 more\)"),
    (other_prefix, r"missing: lm_head.weight, .*; unknown to the model: language.embed_tokens.weight"),
    (narrower, r"of another size: model.layers.1.self_attn.q_proj.weight is \[16, 32\], not \[32, 32\]"),
    (without_embeddings, r"missing: lm_head.weight, model.embed_tokens.weight\)"),
]


@pytest.mark.parametrize(("change", "named"), MISFITS, ids=[change.__name__ for change, _ in MISFITS])
def test_weights_that_do_not_fit_are_refused_by_name_in_engines_and_trainer(
    whole: Path, tmp_path: Path, change: Callable[[Tensors], Tensors], named: str
) -> None:
    folder = changed(whole, tmp_path / "model", change)
    loaders: list[Callable[[], object]] = [
        lambda: HFEngine.load(spec(folder, 2)),
        lambda: CopiedEngine(spec(folder, 2), 2),
        lambda: load_for_training(folder, TrainingConfig(), seed=0),
        lambda: require_whole(AutoModelForCausalLM, folder),
    ]
    for load in loaders:
        with pytest.raises(UsageError, match=named) as refused:
            load()
        assert str(refused.value).startswith(f"{folder}: its weights do not fit the LlamaForCausalLM")


EXPERTS = [
    ("down_proj", None, r"of another size: model.layers.1.mlp.experts.down_proj is \[3, 64, 32\], not \[4, 64, 32\]"),
    (
        "up_proj",
        None,
        r"missing or of another size: model.layers.1.mlp.experts.gate_up_proj \(Sizes of tensors .*\)",
    ),
    ("up_proj", 5, r"missing or of another size: model.layers.1.mlp.experts.gate_up_proj \(stack expects each .*\)"),
]
"""Matrices of one expert, how many rows are left of them, and what is said."""


@pytest.mark.parametrize(("matrix", "rows", "named"), EXPERTS)
def test_weights_that_are_joined_when_they_are_loaded_are_refused_by_name(
    tmp_path: Path, matrix: str, rows: int | None, named: str
) -> None:
    """The experts of a layer are one tensor in the model and many in its file."""
    FAMILIES["qwen2_moe"].model().save_pretrained(tmp_path / "whole")
    key = f"model.layers.1.mlp.experts.2.{matrix}.weight"

    def change(weights: Tensors) -> Tensors:
        assert key in weights
        others = {name: tensor for name, tensor in weights.items() if name != key}
        return others if rows is None else others | {key: weights[key][:rows].clone()}

    folder = changed(tmp_path / "whole", tmp_path / "model", change)
    for load in (load_whole, require_whole):
        with pytest.raises(UsageError, match=named):
            load(AutoModelForCausalLM, folder)


def test_a_whole_checkpoint_is_loaded_as_it_is(whole: Path) -> None:
    loaded = load_whole(AutoModelForCausalLM, whole, dtype=torch.float32)
    expected = LlamaForCausalLM.from_pretrained(whole, dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert not loaded.training
    require_whole(AutoModelForCausalLM, whole)


def test_a_tied_head_may_be_missing_and_a_buffer_that_is_kept_may_not(whole: Path) -> None:
    class WithSteps(LlamaForCausalLM):
        def __init__(self, config: LlamaConfig, persistent: bool) -> None:
            super().__init__(config)
            self.register_buffer("steps", torch.zeros(1), persistent=persistent)

    assert "lm_head.weight" not in load_file(whole / "model.safetensors")
    load_whole(WithSteps, whole, persistent=False)
    with pytest.raises(UsageError, match=r"missing: steps\)"):
        load_whole(WithSteps, whole, persistent=True)


def test_files_that_are_missing_or_torn_are_named(whole: Path, tmp_path: Path) -> None:
    torn = shutil.copytree(whole, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"torn cannot be loaded: its weights are damaged"):
        load_whole(AutoModelForCausalLM, torn)
    sharded = shutil.copytree(whole, tmp_path / "sharded")
    (sharded / "model.safetensors").rename(sharded / "model-00001-of-00002.safetensors")
    places = {
        name: f"model-0000{1 + ('layers.1.' in name)}-of-00002.safetensors"
        for name in load_file(whole / "model.safetensors")
    }
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    with pytest.raises(UsageError, match=r"sharded cannot be loaded: a file is missing .*model-00002-of-00002"):
        load_whole(AutoModelForCausalLM, sharded)
    strange = shutil.copytree(whole, tmp_path / "strange")
    (strange / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(UsageError, match="strange cannot be loaded by transformers"):
        load_whole(AutoModelForCausalLM, strange)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_torn_json_file_of_a_model_is_named(tiny_checkpoint: Path, tmp_path: Path, file: str) -> None:
    torn = shutil.copytree(tiny_checkpoint, tmp_path / "torn")
    (torn / file).write_text((torn / file).read_text()[:-10])
    with pytest.raises(UsageError, match=file):
        resolve_model(str(torn))


def without_a_layer(weights: Tensors) -> Tensors:
    return {name: tensor for name, tensor in weights.items() if "encoder.layer.1." not in name}


def with_a_layer_too_many(weights: Tensors) -> Tensors:
    return weights | {
        name.replace("layer.1.", "layer.7."): t.clone() for name, t in weights.items() if "encoder.layer.1." in name
    }


@pytest.mark.parametrize("change", [without_a_layer, with_a_layer_too_many])
@pytest.mark.parametrize("save", [save_plain, save_colbert])
def test_an_encoder_that_is_not_whole_is_refused_by_name(
    tmp_path: Path, save: Callable[[Path], Path], change: Callable[[Tensors], Tensors]
) -> None:
    if save is save_colbert:
        pytest.importorskip("sentence_transformers", reason="needs exsearch[retrieval]")
    folder = changed(save(tmp_path / "whole"), tmp_path / "encoder", change)
    with pytest.raises(UsageError, match=r"its weights do not fit the \w+ .*layer\.[17]\."):
        load_checkpoint(str(folder))


def test_an_encoder_may_lack_a_pooler_and_have_a_head(tmp_path: Path) -> None:
    def pretrained(weights: Tensors) -> Tensors:
        kept = {f"bert.{name}": tensor for name, tensor in weights.items() if "pooler" not in name}
        return kept | {"cls.predictions.bias": torch.zeros(3)}

    plain = save_plain(tmp_path / "plain")
    folder = changed(plain, tmp_path / "pretrained", pretrained)
    assert load_checkpoint(str(folder)).hash == load_checkpoint(str(plain)).hash


def test_sentence_encoders_and_rerankers_that_are_not_whole_are_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs exsearch[retrieval]")
    from exsearch.retrieval.encoders.sentence import SentenceEncoder
    from exsearch.retrieval.rerank import Reranker
    from tiny_sentence_models import save_cross_encoder, save_sentence_encoder

    def torn(weights: Tensors) -> Tensors:
        return {name: tensor for name, tensor in weights.items() if "intermediate" not in name}

    encoder = changed(save_sentence_encoder(tmp_path / "whole"), tmp_path / "encoder", torn)
    with pytest.raises(UsageError, match=r"missing: encoder.layer.0.intermediate.dense.bias"):
        SentenceEncoder(str(encoder), "float32")
    reranker = changed(save_cross_encoder(tmp_path / "cross"), tmp_path / "reranker", torn)
    with pytest.raises(UsageError, match=r"missing: bert.encoder.layer.0.intermediate.dense.bias"):
        Reranker(str(reranker))


def test_a_sentence_encoder_with_its_network_in_a_folder_is_read(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs exsearch[retrieval]")
    from exsearch.retrieval.encoders.sentence import SentenceEncoder
    from tiny_sentence_models import save_sentence_encoder

    flat = save_sentence_encoder(tmp_path / "flat")
    nested = shutil.copytree(flat, tmp_path / "nested")
    modules = json.loads((nested / "modules.json").read_text())
    (nested / "0_Transformer").mkdir()
    own = {"modules.json", "config_sentence_transformers.json", "README.md"}
    for path in list(nested.iterdir()):
        if path.is_file() and path.name not in own:
            path.rename(nested / "0_Transformer" / path.name)
    modules[0]["path"] = "0_Transformer"
    (nested / "modules.json").write_text(json.dumps(modules))
    assert SentenceEncoder(str(nested), "float32").info.hash == SentenceEncoder(str(flat), "float32").info.hash
