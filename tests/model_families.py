"""Tiny random models of the decoder families that the installed transformers knows.

A family is a model type of transformers, shrunk: every size that its configuration knows is set to a small one, and
what makes the family what it is (layer types, caps, multipliers, windows) is set so that it shows at that size.
Windows are 16 tokens, soft caps 5, multipliers 3, 4 or a quarter.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from exsearch.agent.chat import ChatFormat

VOCABULARY = int(os.environ.get("FAMILIES_VOCABULARY", "320"))
WINDOW = 16
ABSENT = object()
"""Stands for a size that a family is not to be given."""

SIZES: Mapping[str, object] = MappingProxyType(
    dict.fromkeys(
        ("num_hidden_layers", "num_attention_heads", "num_experts", "num_local_experts", "n_routed_experts"), 4
    )
    | dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "linear_num_key_heads"), 2)
    | dict.fromkeys(("n_shared_experts", "first_k_dense_replace", "n_group", "topk_group"), 1)
    | dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32)
    | dict.fromkeys(("head_dim", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim"), 16)
    | dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16)
    | dict.fromkeys(("num_mtp_layers", "num_nextn_predict_layers"), 0)
    | dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), None)
    | {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,
        "q_lora_rank": 24,
        "qk_rope_head_dim": 8,
        "linear_num_value_heads": 4,
        "sliding_window": WINDOW,
    }
)


@dataclass(frozen=True)
class Family:
    """A model type and what is to be said of it beyond the sizes."""

    name: str
    kind: str
    """Of `CONFIG_MAPPING`."""
    settings: dict[str, Any] = field(default_factory=dict)

    def config(self) -> PreTrainedConfig:
        """Return the shrunk configuration."""
        if self.kind == "gemma3":
            return _gemma3()
        made = CONFIG_MAPPING[self.kind]
        known = {one.name for one in fields(made)} | set(getattr(made, "attribute_map", {}))
        chosen = {name: value for name, value in SIZES.items() if name in known} | self.settings
        return made(**{name: value for name, value in chosen.items() if value is not ABSENT})

    def model(self, seed: int = 0) -> PreTrainedModel:
        """Return a random model, none of whose vectors is all alike or all zero."""
        name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(self.kind, ALSO.get(self.kind))
        torch.manual_seed(seed)
        model = getattr(transformers, str(name))(self.config())
        noise = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() < 2 or not parameter.any():
                    parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
        return model.float().eval()


ALSO = {"mistral4": "Mistral4ForCausalLM"}
"""Model types that transformers can compute, but does not list among those that speak."""


def _gemma3() -> PreTrainedConfig:
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    kind: Any = CONFIG_MAPPING["gemma3"]
    return kind(
        text_config=FAMILIES["gemma3_text"].config().to_dict(),
        vision_config=vision | {"image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=VOCABULARY - 1,
        boi_token_index=VOCABULARY - 2,
        eoi_token_index=VOCABULARY - 3,
    )


def rope(kind: str, **others: object) -> dict[str, object]:
    """Return the settings of rotary positions."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **others}}


ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2}
LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
CONV = {"layer_types": ["conv", "full_attention"] * 2}
ALL_HEADS = {"num_key_value_heads": 4}
NO_WINDOW = {"sliding_window": None}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_chunk_size": 16}
MAMBA |= {"mamba_expand": 2}
SCALES = {"embedding_multiplier": 3.0, "logits_scaling": 4.0, "residual_multiplier": 0.5, "attention_multiplier": 0.125}
CAPPED = {"final_logit_softcapping": 5.0}
CAPPED_TWICE = CAPPED | {"attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 16}
INDEXER = {"index_topk": 16, "index_head_dim": 16, "index_n_heads": 2}
PER_LAYER = {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": VOCABULARY}
OLD = {"n_embd": 64, "n_layer": 4, "n_head": 4}
INKLING = {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "sliding_window_size": 16}
INKLING |= {"d_rel": 8, "rel_extent": 64}

SPECIAL: dict[str, dict[str, Any]] = {
    "smollm3": NO_WINDOW,
    "seed_oss": {"residual_dropout": 0.1},
    "nanochat": CAPPED,
    "hyperclovax": {"logits_scaling": 0.25},
    "doge": NO_WINDOW | {"num_experts": ABSENT},
    "llama4_text": {
        "attention_chunk_size": 16,
        "floor_scale": 16,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 96,
        "no_rope_layers": [1, 1, 1, 0],
        "interleave_moe_layer_step": 2,
    },
    "qwen2": {"use_sliding_window": False},
    "qwen2_moe": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False, "tie_word_embeddings": True},
    "qwen3_moe": {"use_sliding_window": False},
    "mistral": NO_WINDOW,
    "ministral": ALTERNATING,
    "ministral3": NO_WINDOW
    | rope(
        "yarn",
        factor=16.0,
        original_max_position_embeddings=32,
        beta_fast=32.0,
        beta_slow=1.0,
        mscale=1.0,
        mscale_all_dim=1.0,
        llama_4_scaling_beta=0.1,
    ),
    "mixtral": NO_WINDOW,
    "mistral4": ALL_HEADS,
    "gemma2": ALTERNATING | CAPPED_TWICE,
    "gemma3_text": ALTERNATING | {"query_pre_attn_scalar": 16},
    "gemma3n_text": ALTERNATING
    | PER_LAYER
    | CAPPED
    | {
        "num_kv_shared_layers": 0,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
        "intermediate_size": [96] * 4,
    },
    "gemma4_text": ALTERNATING | PER_LAYER | CAPPED | {"global_head_dim": 32, "num_experts": None},
    "vaultgemma": ALTERNATING | CAPPED_TWICE,
    "recurrent_gemma": {
        "logits_soft_cap": 5.0,
        "attention_window_size": WINDOW,
        "lru_width": 64,
        "block_types": ["recurrent", "attention"],
    },
    "gpt_oss": ALTERNATING,
    "gpt2": OLD | {"n_positions": 2048},
    "phi3": NO_WINDOW,
    "phimoe": NO_WINDOW | {"lm_head_bias": True, "router_jitter_noise": 0.1},
    "granite": SCALES,
    "granitemoe": SCALES,
    "granitemoeshared": SCALES | {"shared_intermediate_size": 32},
    "granitemoehybrid": SCALES | MAMBA | {"layer_types": ["mamba", "attention"] * 2, "shared_intermediate_size": 32},
    "granite_swa": SCALES | ALTERNATING,
    "granitemoe_swa": SCALES | ALTERNATING | {"shared_intermediate_size": 32},
    "cohere": {"logit_scale": 0.25},
    "cohere2": ALTERNATING | {"logit_scale": 0.25},
    "cohere2_moe": ALTERNATING | {"logit_scale": 0.25},
    "olmo3": ALTERNATING,
    "olmo_hybrid": LINEAR,
    "glm4_moe_lite": ALL_HEADS,
    "glm_moe_dsa": ALL_HEADS | INDEXER | {"head_dim": 8},
    "deepseek_v2": ALL_HEADS | {"head_dim": ABSENT},
    "deepseek_v3": ALL_HEADS | {"n_group": 2},
    "deepseek_v32": ALL_HEADS | INDEXER | {"n_group": 2, "head_dim": 8},
    "deepseek_v4": INDEXER
    | {"num_key_value_heads": 1, "head_dim": 32, "o_groups": 2, "o_lora_rank": 16, "index_topk": 8},
    "minicpm3": ALL_HEADS | {"head_dim": ABSENT, "scale_emb": 3, "dim_model_base": 16},
    "minimax": NO_WINDOW | LINEAR | {"block_size": 16},
    "kimi_linear": ALL_HEADS | {"linear_head_dim": 16, "linear_num_heads": 4},
    "longcat_flash": ALL_HEADS
    | {
        "num_hidden_layers": ABSENT,
        "num_layers": 2,
        "ffn_hidden_size": 96,
        "expert_ffn_hidden_size": 32,
        "moe_topk": 2,
        "zero_expert_num": 2,
        "head_dim": 8,
    },
    "dots1": NO_WINDOW,
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2},
    "hunyuan_v1_moe": {"moe_topk": 2},
    "exaone4": ALTERNATING,
    "exaone_moe": ALTERNATING,
    "mimo_v2_flash": ALTERNATING | {"head_dim": 24},
    "youtu": ALL_HEADS,
    "lfm2": CONV | {"block_auto_adjust_ff_dim": False},
    "lfm2_moe": CONV,
    "falcon_h1": MAMBA | {"mamba_d_ssm": 128, "lm_head_multiplier": 0.25},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "n_groups": 2, "chunk_size": 16},
    "falcon_mamba": {"state_size": 8},
    "nemotron_h": NO_WINDOW
    | {
        "num_hidden_layers": ABSENT,
        "layers_block_type": ["mamba", "attention", "mlp", "attention"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "chunk_size": 16,
        "ssm_state_size": 16,
        "moe_shared_expert_intermediate_size": 32,
    },
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
    },
    "bamba": MAMBA | {"attn_layer_indices": [1, 3]},
    "zamba": ALL_HEADS
    | {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "use_mamba_kernels": False,
        "mamba_d_state": 8,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
    },
    "zamba2": ALL_HEADS
    | {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "use_mamba_kernels": False,
        "mamba_d_state": 16,
        "n_mamba_heads": 8,
        "mamba_ngroups": 1,
        "chunk_size": 16,
        "head_dim": ABSENT,
    },
    "starcoder2": NO_WINDOW,
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True},
    "bloom": {"n_layer": 4, "n_head": 4},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64, "init_std": 0.2},
    "afmoe": ALTERNATING,
    "cwm": ALTERNATING | {"bos_token_id": ABSENT, "eos_token_id": ABSENT},
    "laguna": ALTERNATING,
    "flint": ALTERNATING,
    "kolibri1": ALTERNATING,
    "beam": ALTERNATING | CAPPED,
    "mellum": ALTERNATING,
    "qwen4_exp_text": {
        "ngram_vocab_size_base": 1000,
        "split_ngram_parts": 1,
        "hc_count": 2,
        "hc_lowrank": 8,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
    },
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"] * 2,
        "dense_intermediate_size": 96,
        "shared_intermediate_size": 32,
        "rotary_dim": 8,
        "index_n_heads": 2,
        "index_head_dim": 16,
        "index_block_size": 8,
        "index_topk_blocks": 2,
    },
    "inkling_text": INKLING | {"logits_mup_width_multiplier": 1.0},
    "inkling2_text": INKLING | CAPPED | {"unpadded_vocab_size": VOCABULARY - 100, "layer_types": ABSENT},
    "axk1": ALL_HEADS | {"n_group": 2},
    "axk2": ALL_HEADS | INDEXER | {"head_dim": 8, "gated_norm_rank": 4, "n_group": ABSENT, "topk_group": ABSENT},
    "hy_v4": ALL_HEADS | INDEXER | {"hc_mult": 2},
    "zaya": {"num_experts_per_tok": 1},
    "modernbert-decoder": {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "gpt_bigcode": OLD | {"n_positions": 2048},
    "jetmoe": {"kv_channels": 16},
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 4},
    "gptj": OLD | {"rotary_dim": 8},
    "xlstm": {"num_heads": 4, "chunk_size": 16, "output_logit_soft_cap": 5.0},
    "rwkv": {"context_length": 2048},
    "gpt_neo": {
        "num_layers": 4,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 2]],
        "window_size": WINDOW,
    },
    "codegen": OLD | {"n_positions": 2048, "n_ctx": 2048, "rotary_dim": 8},
    "ctrl": OLD | {"n_positions": 2048, "dff": 96},
    "openai-gpt": OLD | {"n_positions": 2048},
    "xglm": {"d_model": 64, "ffn_dim": 96, "num_layers": 4, "attention_heads": 4, "init_std": 0.2},
    "aria_text": {"moe_num_experts": 4, "moe_topk": 2},
    "dots3_note_text": ALL_HEADS | INDEXER | {"head_dim": 8, "shared_experts_intermediate_size": 32},
    "gemma4_unified_text": ALTERNATING | CAPPED,
    "hrm_text": {"initializer_range": 0.1},
}
"""What is said of a model type beyond the sizes."""

PLAIN = [
    "arcee",
    "apertus",
    "internlm3",
    "helium",
    "jais2",
    "bitnet",
    "diffllama",
    "qwen3_next",
    "qwen3_5_text",
    "qwen3_5_moe_text",
    "gemma",
    "gemma3",
    "phi",
    "olmo",
    "olmo2",
    "olmoe",
    "flex_olmo",
    "glm",
    "glm4",
    "glm4_moe",
    "minimax_m2",
    "ernie4_5",
    "hunyuan_v1_dense",
    "solar_open",
    "lfm3",
    "nemotron",
    "stablelm",
    "gpt_neox",
    "hy_v3",
    "bailing_hybrid",
    "persimmon",
    "iquestcoder",
    "biogpt",
    "gpt_neox_japanese",
]
"""Model types of which the sizes say all."""

VARIANTS = [
    Family("falcon-alibi", "falcon", {"alibi": True, "new_decoder_architecture": False, "multi_query": False}),
    Family(
        "llama3",
        "llama",
        {"tie_word_embeddings": False}
        | rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    Family("llama-tied", "llama", {"tie_word_embeddings": True}),
    Family("llama-dynamic", "llama", {"max_position_embeddings": 64} | rope("dynamic", factor=4.0)),
    Family("llama-padded-vocabulary", "llama", {"vocab_size": VOCABULARY + 128}),
    Family(
        "qwen2-yarn",
        "qwen2",
        {"use_sliding_window": False} | rope("yarn", factor=4.0, original_max_position_embeddings=64),
    ),
    Family("qwen2-window", "qwen2", {"use_sliding_window": True, "max_window_layers": 2}),
    Family("mistral-v0.1", "mistral"),
    Family("gemma2-window-512", "gemma2", ALTERNATING | CAPPED_TWICE | {"sliding_window": 512}),
    Family("gpt_oss-window-512", "gpt_oss", ALTERNATING | {"sliding_window": 512}),
    Family("phi3-mini-4k", "phi3"),
    Family(
        "phi4-mini-longrope",
        "phi3",
        NO_WINDOW
        | {"original_max_position_embeddings": 64}
        | rope(
            "longrope",
            partial_rotary_factor=1.0,
            short_factor=[1.0] * 8,
            long_factor=[1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0],
            original_max_position_embeddings=64,
        ),
    ),
    Family(
        "granite4-dense",
        "granitemoehybrid",
        SCALES
        | MAMBA
        | {
            "layer_types": ["attention"] * 4,
            "shared_intermediate_size": 96,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "position_embedding_type": "rope",
        },
    ),
    Family(
        "hunyuan-dynamic",
        "hunyuan_v1_dense",
        rope("dynamic", factor=1.0, alpha=1000.0, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0),
    ),
]
"""Model types in another dress."""

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in sorted(
        [*(Family(kind, kind, SPECIAL.get(kind, {})) for kind in {*SPECIAL, *PLAIN}), *VARIANTS],
        key=lambda family: family.name,
    )
}


def save_family(name: str, folder: Path, chat: ChatFormat, **settings: object) -> Path:
    """Write a family's model with the tokenizer of `chat` as a checkpoint folder."""
    family = FAMILIES[name]
    spoken = {"vocab_size": len(chat.tokenizer)} | settings
    replace(family, settings=family.settings | spoken).model().save_pretrained(folder)
    chat.tokenizer.save_pretrained(folder)
    return folder
