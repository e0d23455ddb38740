"""Random BERT-like encoders small enough for any test: plain ones, and ones in the form of Stanford's ColBERT."""

import json
import string
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizer

SPECIAL = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "which",
    "what",
    "who",
    "shark",
    "river",
    "glacier",
    "lives",
    "in",
    "of",
    "ohio",
    "norway",
    "wrote",
    "the",
    "bridge",
    "novel",
    "senator",
    "and",
]


def save_plain(folder: Path, seed: int = 0) -> Path:
    """Write a random BERT and its tokenizer, which knows WORDS, letters and marks."""
    _save_tokenizer(folder)
    _tiny_bert(seed).save_pretrained(folder)
    return folder


def save_colbert(folder: Path, seed: int = 0, dimensions: int = 16, **metadata: object) -> Path:
    """Write a random ColBERT as Stanford's code does: linear.weight beside the BERT, and artifact.metadata."""
    _save_tokenizer(folder)
    bert = _tiny_bert(seed)
    tensors = {f"bert.{name}": tensor.contiguous() for name, tensor in bert.state_dict().items()}
    tensors["linear.weight"] = torch.randn(dimensions, bert.config.hidden_size)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {**bert.config.to_dict(), "architectures": ["HF_ColBERT"]}
    (folder / "config.json").write_text(json.dumps(config))
    settings = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": 12,
        "doc_maxlen": 20,
        "dim": dimensions,
        "attend_to_mask_tokens": False,
        "mask_punctuation": True,
    }
    (folder / "artifact.metadata").write_text(json.dumps({**settings, **metadata}))
    return folder


def _save_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    letters = [form for letter in string.ascii_lowercase + string.digits for form in (letter, f"##{letter}")]
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *WORDS, *letters, *string.punctuation])}
    BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(folder)


def _tiny_bert(seed: int) -> BertModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS) + 72 + len(string.punctuation),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    return BertModel(config).eval()
