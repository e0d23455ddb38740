"""Sentence embeddings for dense retrieval: one vector per text."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from exsearch.core.archives import checkpoint_folder
from exsearch.core.checkpoint import reason_of
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.trouble import machine_trouble, probe
from exsearch.hardware.devices import bfloat16_is_fast
from exsearch.network.http_client import check_hub
from exsearch.processes import compute
from exsearch.retrieval.encoders.base import EMBEDDED, content_hash, require_whole_network
from exsearch.retrieval.encoders.plain import embedded_folder
from exsearch.retrieval.index.folder import EncoderInfo

_BATCH = 64


class SentenceEncoder:
    """A sentence-transformers model with its pooling, prompts and similarity. Safe to share between threads."""

    @compute.owned
    def __init__(
        self, id: str, precision: str, query_prompt: str | None = None, passage_prompt: str | None = None
    ) -> None:
        """Load EMBEDDED, a folder or a hub id, to compute in `precision`, float32 or bfloat16.

        A prompt precedes each text; None uses the checkpoint's own, if it has one. Raises UsageError if there is no
        such model, if sentence-transformers is missing, or if its vectors are not compared by product or cosine.
        """
        model = _load(id)
        similarity = model.similarity_fn_name
        if similarity not in ("cosine", "dot"):
            raise UsageError(f"encoder {id!r}: compares vectors by {similarity}; only cosine and dot can be indexed")
        self._normalised = similarity == "cosine"
        self._prompts = {"query": query_prompt, "document": passage_prompt}
        rules = [model.prompts, model.max_seq_length, similarity]
        rules += [module.get_config_dict() for module in list(model)[1:]]
        self.info = EncoderInfo(
            id=id,
            hash=content_hash(model, model.tokenizer, rules),
            precision=precision,
            dimensions=model.get_embedding_dimension(),
        )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(device, getattr(torch, precision))

    def encode_queries(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return [texts, dimensions]; vectors have length 1 if the model compares by cosine."""
        return self._encode(self._model.encode_query, texts, self._prompts["query"])

    def encode_passages(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return [texts, dimensions], as for queries; texts beyond the model's limit are truncated."""
        return self._encode(self._model.encode_document, texts, self._prompts["document"])

    @compute.owned  # one call at a time, because its tokenizer keeps state
    def _encode(self, encode: Any, texts: list[str], prompt: str | None) -> npt.NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.info.dimensions), dtype=np.float32)
        encoded = encode(texts, prompt=prompt, batch_size=_BATCH, show_progress_bar=False, convert_to_tensor=True)
        vectors = encoded.float()
        if self._normalised:  # even if the model normalises, which is inexact in bfloat16
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return vectors.cpu().numpy()  # type: ignore[no-any-return]


def best_precision() -> str:
    """Return bfloat16 if the hardware computes faster with it, otherwise float32."""
    return "bfloat16" if bfloat16_is_fast("cuda" if torch.cuda.is_available() else "cpu") else "float32"


def _load(id: str) -> Any:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise UsageError("dense retrieval needs sentence-transformers: pip install 'exsearch[retrieval]'")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    source = embedded_folder() if id == EMBEDDED else id
    check_hub(source)
    try:
        probe(Path(source))
        if Path(source).exists():
            source = str(checkpoint_folder(Path(source)))
        model = SentenceTransformer(source, device="cpu", model_kwargs={"dtype": torch.float32})
    except ExSearchError:
        raise
    except Exception as error:  # libraries check little of what files say
        raise machine_trouble(error) or UsageError(f"encoder {id!r} cannot be loaded: {reason_of(error)}") from error
    require_whole_network(source, model)
    return model
