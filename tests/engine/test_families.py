"""Every decoder family of the installed transformers is computed as transformers computes it, or refused by name."""

import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from family_checks import Finding, check_adapters, check_engine, check_trainer
from model_families import FAMILIES

transformers.logging.set_verbosity_error()
FAST = {
    "llama3": "plain",
    "granite": "scaled",
    "gemma2": "capped twice",
    "gpt_oss": "with sinks",
    "mistral-v0.1": "windowed",
    "qwen3_5_text": "hybrid",
    "lfm2": "convolutional",
    "falcon": "without the attention interface",
    "mamba": "recurrent",
    "nemotron": "that hands its attention no layout",
    "deepseek_v2": "with latent keys",
    "phi4-mini-longrope": "whose positions change with the length",
    "inkling_text": "whose attention has a bias",
    "zamba2": "whose cache is wrong, and whose layers share weights",
    "deepseek_v32": "refused",
}
"""One of each kind, tried every time."""
UNTRIED = frozenset(
    [
        # encoders and encoder-decoders that can be set up as decoders
        *("bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "blenderbot", "blenderbot-small"),
        *("camembert", "data2vec-text", "electra", "ernie", "marian", "mbart", "megatron-bert", "mvp", "pegasus"),
        *("plbart", "prophetnet", "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer"),
        *("xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod"),
        # of text and images or sound, or drafts for another model; those that hold a decoder hold one that is tried
        *("dots3_note", "emu3", "fuyu", "gemma3n", "gemma4", "gemma4_assistant", "gemma4_unified"),
        *("gemma4_unified_assistant", "git", "got_ocr2", "llama4", "mllama", "moshi", "moss_transcribe_diarize"),
        *("musicgen", "musicgen_melody", "phi4_multimodal", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "trocr", "whisper"),
        # the class of GPT-2; bytes in patches; embeddings; configurations that transformers fails on when shrunk
        *("gpt-sw3", "blt", "cohere_compass_text", "cpmant", "dbrx"),
    ]
)
"""Model types that transformers lists among those that speak, and that are not tried."""
CHECKS = {"engine": check_engine, "trainer": check_trainer, "adapters": check_adapters}
slow = [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name not in FAST]


@pytest.mark.parametrize("part", CHECKS)
@pytest.mark.parametrize("name", [*FAST, *slow])
def test_a_family_is_right_or_refused(name: str, part: str) -> None:
    found: Finding = CHECKS[part](FAMILIES[name])
    assert found.verdict in ("right", "refused"), found
    assert found.path or found.refusal


@pytest.mark.parametrize(
    ("name", "engine", "trainer"),
    [
        ("llama3", "slots", "tree"),
        ("gpt_oss", "slots", "tree"),
        ("deepseek_v2", "slots", "tree"),
        ("lfm2", "pieces", "rows"),
        ("mamba", "tokens", "rows"),
        ("zamba2", "whole", "rows"),
    ],
)
def test_a_family_takes_the_fastest_path_that_is_right(name: str, engine: str, trainer: str) -> None:
    from exsearch.engine.hf.paths import judge_engine
    from exsearch.training.packing.ways import judge_trainer

    assert judge_engine(FAMILIES[name].model()).path == engine
    assert judge_trainer(FAMILIES[name].model()).path == trainer


def test_every_model_type_that_speaks_is_tried_or_known_not_to_be() -> None:
    tried = {family.kind for family in FAMILIES.values()}
    assert MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - tried == UNTRIED, "this transformers has others"
