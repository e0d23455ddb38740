"""Random sentence encoders and cross-encoders small enough for any test, with the embedded encoder's tokenizer."""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

from exsearch.retrieval.encoders.plain import embedded_folder

DIMENSIONS = 32


def _config(labels: int = 1) -> BertConfig:
    kind: Any = BertConfig  # it takes more than it names
    config: BertConfig = kind(
        vocab_size=30522,
        hidden_size=DIMENSIONS,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=DIMENSIONS,
        initializer_range=0.5,
        num_labels=labels,
    )
    return config


def save_bert(folder: Path, seed: int = 0) -> Path:
    """Write a plain BERT without a head."""
    torch.manual_seed(seed)
    BertModel(_config()).save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_folder()).save_pretrained(folder)
    return folder


def save_sentence_encoder(
    folder: Path, prompts: dict[str, str] | None = None, similarity: str = "cosine", seed: int = 0
) -> Path:
    """Write a sentence-transformers model with mean pooling."""
    backbone = Transformer(str(save_bert(folder.with_name(f"{folder.name}-backbone"), seed)))
    modules = [backbone, Pooling(DIMENSIONS)]
    SentenceTransformer(modules=modules, prompts=prompts, similarity_fn_name=similarity, device="cpu").save(str(folder))
    return folder


def save_cross_encoder(folder: Path, labels: int = 1, seed: int = 0) -> Path:
    """Write a cross-encoder with `labels` scores a pair."""
    torch.manual_seed(seed)
    BertForSequenceClassification(_config(labels)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_folder()).save_pretrained(folder)
    return folder
