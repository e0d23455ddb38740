"""Random Llama models small enough for any test."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from exsearch.agent.chat import ChatFormat
from exsearch.engine.hf.engine import HFEngine

VOCABULARY = 97
"""Of the models whose tokens mean nothing."""


def tiny_llama(
    vocabulary: int = VOCABULARY, seed: int = 0, spread: float = 0.2, context: int = 2048, head_size: int = 8
) -> LlamaForCausalLM:
    """Return a random model; a larger `spread` of its weights makes it surer of its next token."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_size,
        max_position_embeddings=context,
        initializer_range=spread,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()


def tiny_engine(seed: int = 0, seats: int = 64) -> HFEngine:
    """Return an engine on a random model without a meaning to its tokens."""
    return HFEngine(tiny_llama(seed=seed, spread=0.4), f"tiny-{seed}", seats)


def save_tiny(folder: Path, chat: ChatFormat, seed: int = 0, spread: float = 0.02, head_size: int = 8) -> Path:
    """Write a random model with the tokenizer of `chat` as a checkpoint folder."""
    tiny_llama(len(chat.tokenizer), seed, spread, head_size=head_size).save_pretrained(folder)
    chat.tokenizer.save_pretrained(folder)
    return folder
