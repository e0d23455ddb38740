"""Dense retrieval: one vector per passage and one per query, compared by inner product.

The parameter `index` chooses how vectors are stored. Bytes per passage, for vectors of D dimensions:

    flat     all of them, compared exactly     2 D                     flat.py
    ivfpq    in clusters, product-quantised    m * bits / 8 + 8        faiss_indexes.py
    hnsw     a graph of near neighbours        2 D + about 8 * links   faiss_indexes.py
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from exsearch.core.jsonl import read_json
from exsearch.corpus.layout import Rows
from exsearch.corpus.passage import Hit, Passage
from exsearch.corpus.store import Corpus
from exsearch.retrieval.dense.base import DenseParameters, Floats, VectorIndex
from exsearch.retrieval.encoders.sentence import SentenceEncoder, best_precision
from exsearch.retrieval.index.folder import ENCODER, EncoderInfo, IndexSegment, OpenedIndex, require_same_encoder
from exsearch.retrieval.rank import Ranked, to_hits

_ENCODED_AT_ONCE = 1024


class Dense:
    """Scores are inner products; for models that compare by cosine, cosines."""

    Parameters = DenseParameters
    version: ClassVar[int] = 1
    segment_rows: ClassVar[int] = 1 << 17

    def __init__(self, opened: OpenedIndex) -> None:
        """Map the vectors and load the encoder; queries are encoded in float32."""
        parameters: DenseParameters = opened.parameters
        built_with = opened.info.encoder
        if built_with is None:
            raise ValueError("index.json names no encoder")
        self.fingerprint = opened.fingerprint
        self._corpus = opened.corpus
        self._vectors = _vector_index(parameters.index)(opened, built_with.dimensions)
        self._encoder = _encoder(parameters, "float32")
        require_same_encoder(self._encoder.info, built_with, opened.folder)

    @staticmethod
    def encoder_hash(parameters: DenseParameters) -> str:
        """Return the content hash of the encoder as it is now."""
        return _fresh_encoder(parameters).info.hash

    @staticmethod
    def prepare(corpus: Corpus, shared: Path, parameters: DenseParameters) -> EncoderInfo:
        """Train what `index` needs on passages spread evenly over the corpus."""
        encoder = _fresh_encoder(parameters)

        def sample(count: int) -> Floats:
            rows = np.unique(np.linspace(0, len(corpus) - 1, min(count, len(corpus))).astype(np.int64)).tolist()
            starts = range(0, len(rows), _ENCODED_AT_ONCE)
            blocks = [corpus.rows(rows[start : start + _ENCODED_AT_ONCE]) for start in starts]
            return np.concatenate([encoder.encode_passages([_text(passage) for passage in block]) for block in blocks])

        _vector_index(parameters.index).train(sample, len(corpus), shared, parameters)
        return encoder.info

    @staticmethod
    def build_segment(
        corpus: Corpus,
        rows: range,
        shared: Path,
        folder: Path,
        parameters: DenseParameters,
        advance: Callable[[int], None],
    ) -> None:
        """Encode the passages of `rows`, title and text, and write their vectors."""
        built_with = read_json(shared / ENCODER, EncoderInfo)
        encoder = _passage_encoder(parameters, built_with.precision)
        require_same_encoder(encoder.info, built_with, shared)  # an extended index must not mix vectors of two models

        def vectors() -> Iterator[Floats]:
            for start in range(rows.start, rows.stop, _ENCODED_AT_ONCE):
                stop = min(start + _ENCODED_AT_ONCE, rows.stop)
                texts = [_text(passage) for batch in corpus.batches(start, stop) for passage in batch]
                yield encoder.encode_passages(texts)
                advance(len(texts))

        _vector_index(parameters.index).write(vectors(), rows, shared, folder, parameters)

    @staticmethod
    def check_shared(shared: Path, parameters: DenseParameters) -> None:
        """Check what `index` has trained."""
        if parameters.index == "ivfpq":
            from exsearch.retrieval.dense.faiss_indexes import IvfPq

            IvfPq.check_trained(shared)

    @staticmethod
    def check_segment(segment: IndexSegment, shared: Path, parameters: DenseParameters) -> None:
        """Map the vectors."""
        dimensions = read_json(shared / ENCODER, EncoderInfo).dimensions
        _vector_index(parameters.index).check(segment, shared, dimensions)

    @staticmethod
    def indivisible(parameters: DenseParameters) -> str | None:
        """Name the graphs, if there are any."""
        return _vector_index(parameters.index).indivisible()

    @staticmethod
    def merge_segments(
        parts: list[IndexSegment], deleted: list[Rows], shared: Path, folder: Path, parameters: DenseParameters
    ) -> bool:
        """Join the vectors, without encoding any passage again."""
        return _vector_index(parameters.index).merge(parts, deleted, shared, folder, parameters)

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query, best first, equal scores in row order; none for a blank query."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        worded = [number for number, query in enumerate(queries) if query.strip()]
        ranked: list[Ranked] = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        encoded = self._encoder.encode_queries([queries[number] for number in worded])
        for number, best in zip(worded, self._vectors.rank(encoded, min(k, len(self._corpus))), strict=True):
            ranked[number] = best
        return to_hits(self._corpus, ranked)


def _vector_index(name: str) -> VectorIndex:
    if name == "flat":
        from exsearch.retrieval.dense.flat import Flat

        return Flat
    from exsearch.retrieval.dense.faiss_indexes import Hnsw, IvfPq

    return IvfPq if name == "ivfpq" else Hnsw


def _text(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}"


def _encoder(parameters: DenseParameters, precision: str) -> SentenceEncoder:
    return SentenceEncoder(parameters.encoder, precision, parameters.query_prompt, parameters.passage_prompt)


@functools.lru_cache(maxsize=1)
def _passage_encoder(parameters: DenseParameters, precision: str) -> SentenceEncoder:
    """Return the cached encoder; a build needs it for each segment."""
    return _encoder(parameters, precision)


def _fresh_encoder(parameters: DenseParameters) -> SentenceEncoder:
    """Load the encoder again: its folder may have other weights than when this process last used it."""
    _passage_encoder.cache_clear()
    return _passage_encoder(parameters, best_precision())
