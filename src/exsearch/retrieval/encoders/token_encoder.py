"""Token embeddings for late interaction: one vector of length 1 per token.

A checkpoint defines the tokens of a text, which of them count, and the network that computes their vectors. This file
runs the network on batches of texts of similar length.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from exsearch.corpus.store import Corpus
from exsearch.retrieval.encoders.base import EMBEDDED, Role, TokenRow
from exsearch.retrieval.encoders.batch import group_by_length, pad
from exsearch.retrieval.encoders.load import load_checkpoint
from exsearch.retrieval.encoders.runner import Backend, Runner, Vectors, best_backend, prepare
from exsearch.retrieval.index.folder import EncoderInfo

_ENCODED_AT_ONCE = 1024


class TokenEncoder:
    """Computes one vector of length 1 per token. Safe to share between threads."""

    def __init__(self, id: str = EMBEDDED, backend: Backend | None = None) -> None:
        """Load the encoder `id`: EMBEDDED, a folder or a hub id; ColBERT-style checkpoints bring their own rules.

        `backend` encodes passages; None chooses the fastest that is exact enough. Queries, a few tokens each, are
        encoded in float32 by the same library. Raises UsageError if there is no such model or a library is missing.
        """
        self._checkpoint = load_checkpoint(id)
        backend_name = backend or best_backend()
        self._backends: dict[Role, str] = {"document": backend_name, "query": f"{backend_name.split('-')[0]}-float32"}
        self._runners: dict[Role, Runner] = {}
        self._lock = threading.Lock()
        self.info = EncoderInfo(
            id=id, hash=self._checkpoint.hash, precision=backend_name, dimensions=self._checkpoint.dimensions
        )

    def encode_passages(
        self,
        texts: list[str],
        max_tokens: int | None = None,
        advance: Callable[[int], None] = lambda count: None,
    ) -> list[Vectors]:
        """Return the vectors of each text, [tokens, dimensions]; a text without a word gives an array of length 0.

        Texts are cut to `max_tokens` tokens, and to the checkpoint's own limit. `advance` is called with the number of
        texts in each finished batch.
        """
        return self._encode(texts, "document", max_tokens, advance)

    def encode_queries(self, texts: list[str], max_tokens: int | None = None) -> list[Vectors]:
        """Return the vectors of each text, [tokens, dimensions], as for passages.

        A ColBERT's queries have the checkpoint's own length, whatever `max_tokens` is.
        """
        return self._encode(texts, "query", max_tokens, lambda count: None)

    def _encode(
        self, texts: list[str], role: Role, max_tokens: int | None, advance: Callable[[int], None]
    ) -> list[Vectors]:
        vectors = [np.empty((0, self.info.dimensions), dtype=np.float32) for _ in texts]
        worded = [number for number, text in enumerate(texts) if text.strip()]
        advance(len(texts) - len(worded))
        if not worded:
            return vectors
        with self._lock:  # a tokenizer keeps truncation as state, and refuses a second thread
            if role not in self._runners:  # compiled when first needed: searches encode no passages, builds no queries
                self._runners[role] = prepare(self._checkpoint, self._backends[role])
            runner = self._runners[role]
            rows = self._checkpoint.read([texts[number] for number in worded], role, max_tokens)
        groups = group_by_length(rows, runner.batch_tokens)
        batches = [pad([rows[number] for number in group], self._checkpoint.pad_id) for group in groups]
        for group, batch, states in zip(groups, batches, _run(runner, batches), strict=True):
            for number, counted, state in zip(group, batch.counted, states, strict=True):
                vectors[worded[number]] = state[counted]
            advance(len(group))
        return vectors


@functools.lru_cache(maxsize=1)
def encoder_of_build(id: str) -> TokenEncoder:
    """Return the cached encoder; a build needs it for each segment."""
    return TokenEncoder(id)


def fresh_encoder(id: str) -> TokenEncoder:
    """Load the encoder of a build again: its folder may have other weights than when this process last used it."""
    encoder_of_build.cache_clear()
    return encoder_of_build(id)


def _run(runner: Runner, batches: list[TokenRow]) -> Iterator[Vectors]:
    """Yield the states of the batches, in order."""
    inputs = [(batch.ids, batch.attended.astype(np.int64)) for batch in batches]
    if runner.parallel == 1 or len(inputs) == 1:
        yield from (runner(*batch) for batch in inputs)
        return
    pool = ThreadPoolExecutor(runner.parallel)
    try:
        yield from pool.map(lambda batch: runner(*batch), inputs)
    finally:
        pool.shutdown(cancel_futures=True)


def text_blocks(corpus: Corpus, rows: range) -> Iterator[list[str]]:
    """Yield the texts (title and text) of these rows, in order, in blocks to encode at once."""
    for start in range(rows.start, rows.stop, _ENCODED_AT_ONCE):
        batches = corpus.batches(start, min(start + _ENCODED_AT_ONCE, rows.stop))
        yield [f"{passage.title}\n{passage.text}" for batch in batches for passage in batch]
