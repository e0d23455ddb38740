"""Cross-encoder: a model that reads query and passage together and scores how well they fit.

Nothing can be computed before the query is known, so it only reorders the first hits of other retrievers.
"""

import hashlib
import importlib.util
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exsearch.core.checkpoint import reason_of
from exsearch.core.errors import UsageError
from exsearch.core.trouble import machine_trouble, probe
from exsearch.corpus.passage import Passage
from exsearch.network.http_client import check_hub
from exsearch.processes import compute
from exsearch.retrieval.base import RetrievalError
from exsearch.retrieval.encoders.base import content_hash, require_whole_network


class Reranker:
    """A sentence-transformers CrossEncoder with one score per pair. Safe to share between threads."""

    @compute.owned
    def __init__(self, id: str) -> None:
        """Load a folder or a hub id. Raises UsageError if it is not a cross-encoder."""
        if importlib.util.find_spec("sentence_transformers") is None:
            raise UsageError("re-ranking needs sentence-transformers: pip install 'exsearch[retrieval]'")
        from sentence_transformers import CrossEncoder
        from transformers.utils import logging

        logging.disable_progress_bar()
        check_hub(id)
        try:
            probe(Path(id))
            model: Any = CrossEncoder(id, device="cpu", model_kwargs={"dtype": torch.float32})
        except Exception as error:  # libraries check little of what files say
            reason = reason_of(error)
            raise machine_trouble(error) or UsageError(f"re-ranker {id!r} cannot be loaded: {reason}") from error
        architecture = (model.config.architectures or ["?"])[0]
        if len(model) == 1 and not architecture.endswith("ForSequenceClassification"):
            # sentence-transformers gives such a model a random head, with only a warning
            raise UsageError(f"re-ranker {id!r}: a {architecture} without a head that scores pairs")
        if model.num_labels != 1:
            raise UsageError(f"re-ranker {id!r}: returns {model.num_labels} scores per pair, not one")
        require_whole_network(id, model, states_only=False)
        self.hash = _content_hash(model)
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu")

    @compute.owned  # one call at a time, because its tokenizer keeps state
    def score(self, queries: list[str], passages: list[list[Passage]]) -> list[list[float]]:
        """Return the score of each of a query's passages, title and text: a real number, higher is better."""
        pairs = [
            (query, f"{passage.title}\n{passage.text}")
            for query, row in zip(queries, passages, strict=True)
            for passage in row
        ]
        if not pairs:
            return [[] for _ in queries]
        # without the checkpoint's sigmoid, which saturates in float32 for the best passages
        scores = self._model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        if not np.isfinite(scores).all():
            raise RetrievalError("the re-ranker returned a score that is not a number")
        values = iter(scores.tolist())
        return [list(islice(values, len(row))) for row in passages]


def _content_hash(model: Any) -> str:
    # content_hash ignores poolers, which only cross-encoders use
    poolers = [
        hashlib.sha256(parameter.detach().contiguous().numpy()).hexdigest()
        for name, parameter in model.named_parameters()
        if ".pooler." in name
    ]
    return content_hash(model, model.tokenizer, [poolers, model.max_seq_length, model.prompts])
