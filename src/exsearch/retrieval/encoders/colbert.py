"""ColBERT-style checkpoints, loaded by sentence-transformers.

Reads Stanford's form (colbert-ir/colbertv2.0), PyLate's, and sentence-transformers' own MultiVectorEncoder. Markers,
query augmentation, lengths, projection and the tokens that get no vector follow the checkpoint.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch

from exsearch.core.checkpoint import quiet
from exsearch.core.errors import UsageError
from exsearch.retrieval.encoders.base import Checkpoint, Role, TokenRow, content_hash, require_whole_network
from exsearch.retrieval.encoders.plain import PlainCheckpoint


class ColbertCheckpoint:
    """A MultiVectorEncoder: it reads texts itself; its network is run here."""

    def __init__(self, id: str, model: Any) -> None:
        """Wrap a MultiVectorEncoder, in float32 on the CPU. Raises UsageError for one with unknown modules."""
        from sentence_transformers.base.modules import Dense, Normalize, Transformer
        from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

        self.model = model
        modules: list[Any] = list(model)
        supported = (Transformer, Dense, MultiVectorMask, Normalize)
        names = [type(module).__name__ for module in modules]
        if names.count("MultiVectorMask") != 1 or not all(isinstance(module, supported) for module in modules):
            raise UsageError(f"encoder {id!r}: its modules {', '.join(names)} are not those of a ColBERT")
        transformer, dense = modules[0], [module for module in modules if isinstance(module, Dense)]
        self.mask = next(module for module in modules if isinstance(module, MultiVectorMask))
        self.layers: list[torch.nn.Module] = [transformer, *dense]
        self.network: torch.nn.Module = _Projected(self.layers)
        self.dimensions: int = model.get_embedding_dimension()
        self.pad_id: int = model.tokenizer.pad_token_id or 0
        prompts = model.prompts
        self._prompts: dict[Role, str | None] = {
            "query": prompts.get("query"),
            "document": next((prompts[name] for name in ("document", "passage", "corpus") if name in prompts), None),
        }
        self._longest: int = transformer.document_length or model.max_seq_length
        lengths = [transformer.query_length, transformer.document_length, model.max_seq_length]
        rules = [self._prompts, lengths, transformer.query_expansion, self.mask.get_config_dict()]
        self.hash = content_hash(self.network, model.tokenizer, [*rules, *(d.get_config_dict() for d in dense)])

    def read(self, texts: list[str], role: Role, max_tokens: int | None) -> list[TokenRow]:
        """Return the tokens of each text, including markers and the [MASK]s of query augmentation.

        `max_tokens` is for documents; the length of a query is always the checkpoint's.
        """
        limit = {"max_length": min(max_tokens, self._longest)} if max_tokens and role == "document" else {}
        features = self.model.preprocess(texts, prompt=self._prompts[role], task=role, **limit)
        attended = features["attention_mask"].bool()
        counted = self.mask(dict(features), task=role)["attention_mask"]
        parts = (features["input_ids"], attended, counted)
        # tokens that are neither attended to nor counted are padding
        return [TokenRow(*(part[row][kept].numpy() for part in parts)) for row, kept in enumerate(attended | counted)]

    def save(self, folder: Path) -> None:
        """Write a folder in sentence-transformers' form."""
        self.model.save(str(folder), create_model_card=False)


class _Projected(torch.nn.Module):
    """A transformer, followed by its dense layers."""

    def __init__(self, layers: list[torch.nn.Module]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, ids: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": attended}
        for layer in self.layers:
            features = layer(features)
        return torch.nn.functional.normalize(features["token_embeddings"].float(), dim=-1)


def load_colbert(id: str) -> ColbertCheckpoint:
    """Load a folder or a hub id. Raises UsageError, OSError, ValueError, KeyError or RuntimeError."""
    _require_library(f"encoder {id!r} is a ColBERT-style checkpoint, which")
    from sentence_transformers import MultiVectorEncoder

    with quiet():  # the loader warns about the projection, which Stanford's form stores with the model
        model = MultiVectorEncoder(id, device="cpu", model_kwargs={"dtype": torch.float32})
    require_whole_network(id, model)
    return ColbertCheckpoint(id, model)


def add_projection(id: str, checkpoint: Checkpoint, axes: torch.Tensor) -> ColbertCheckpoint:
    """Return the encoder `id`, loaded as `checkpoint`, with a linear map on top, [new dimensions, its dimensions]."""
    _require_library("an encoder with a projection")
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    added = Dense(
        axes.shape[1],
        axes.shape[0],
        bias=False,
        activation_function=torch.nn.Identity(),
        init_weight=axes.clone(),
        module_input_name="token_embeddings",
    )
    if isinstance(checkpoint, ColbertCheckpoint):
        mask, layers, prompts = checkpoint.mask, checkpoint.layers, checkpoint.model.prompts
    else:
        assert isinstance(checkpoint, PlainCheckpoint)
        # what the plain encoder does, in terms of sentence-transformers
        mask = MultiVectorMask(checkpoint.uncounted(), skiplist_tasks=["query", "document"])
        layers, prompts = [Transformer(checkpoint.source)], None
    modules: list[torch.nn.Module] = [*layers, added, mask, Normalize(module_input_name="token_embeddings")]
    return ColbertCheckpoint(id, MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu"))


def _require_library(what: str) -> None:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise UsageError(f"{what} needs sentence-transformers: pip install 'exsearch[retrieval]'")
