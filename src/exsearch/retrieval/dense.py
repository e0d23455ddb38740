"""Dense retrieval: one vector a passage and one a query, compared by inner product.

How the vectors are kept is a choice, `index`. Bytes a passage, for vectors of D dimensions:

    flat     all of them, compared exactly     2 D                     dense_flat.py
    ivfpq    in clusters, product-quantised    m * bits / 8 + 8        dense_faiss.py
    hnsw     a graph of near neighbours        2 D + about 8 * links   dense_faiss.py
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from exsearch.corpus.layout import Rows
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus
from exsearch.files import read_json
from exsearch.retrieval.base import Hit
from exsearch.retrieval.encoder_checkpoint import EMBEDDED
from exsearch.retrieval.encoder_sentence import SentenceEncoder, best_precision
from exsearch.retrieval.index_folder import ENCODER, EncoderInfo, OpenedIndex, Segment, require_same_encoder
from exsearch.retrieval.ranking import Ranked, to_hits

Floats = npt.NDArray[np.float32]
Positive = Annotated[int, msgspec.Meta(ge=1)]
_ENCODED_AT_ONCE = 1024


class DenseParameters(msgspec.Struct, frozen=True):
    """Settings of a dense index."""

    encoder: str = EMBEDDED
    """The embedded encoder, or the folder or hub id of any sentence-transformers model."""
    query_prompt: str | None = None
    """Put before each query, such as `query: `; None takes the checkpoint's own prompt, if it has one."""
    passage_prompt: str | None = None
    """The same for passages."""
    index: Literal["flat", "ivfpq", "hnsw"] = "flat"
    nlist: Positive | None = None
    """ivfpq: clusters; None for the square root of the number of passages."""
    m: Positive = 64
    """ivfpq: groups that the dimensions are cut into; divides their number."""
    bits: Annotated[int, msgspec.Meta(ge=1, le=12)] = 8
    """ivfpq: bits a group."""
    nprobe: Positive = 32
    """ivfpq: clusters that a search looks into."""
    links: Annotated[int, msgspec.Meta(ge=2)] = 32
    """hnsw: neighbours of each vector (M)."""
    ef_construction: Positive = 100
    """hnsw: candidates for a vector's neighbours while the graph is built."""
    ef_search: Positive = 100
    """hnsw: candidates while it is searched; at least k."""


class VectorIndex(Protocol):
    """How vectors are kept and searched."""

    def __call__(self, opened: OpenedIndex, dimensions: int) -> "OpenedVectors":
        """Map the files; raises OSError or ValueError if they are damaged."""
        ...

    def train(self, sample: Callable[[int], Floats], passages: int, shared: Path, parameters: DenseParameters) -> None:
        """Write to `shared` what all segments need; `sample` gives about so many vectors, spread over the corpus."""
        ...

    def write(
        self, vectors: Iterator[Floats], rows: range, shared: Path, folder: Path, parameters: DenseParameters
    ) -> None:
        """Write the vectors of `rows`, which come in blocks, to `folder`."""
        ...

    def indivisible(self) -> str | None:
        """Do what `Kind.indivisible` says."""
        ...

    def check(self, segment: Segment, shared: Path, dimensions: int) -> None:
        """Map a segment's files; raises OSError or ValueError if they are damaged."""
        ...

    def merge(
        self, parts: list[Segment], deleted: list[Rows], shared: Path, folder: Path, parameters: DenseParameters
    ) -> bool:
        """Do what `Merging.merge_segments` says."""
        ...


class OpenedVectors(Protocol):
    """Vectors ready to be searched; safe to share between threads."""

    def rank(self, queries: Floats, k: int) -> list[Ranked]:
        """Return the rows of the at most `k` best passages for each of `queries`, deleted ones left out."""
        ...


class Dense:
    """Scores are inner products, cosines for models that compare by cosine."""

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
        require_same_encoder(encoder.info, built_with, shared)  # before a grown corpus gets vectors of two models

        def vectors() -> Iterator[Floats]:
            for start in range(rows.start, rows.stop, _ENCODED_AT_ONCE):
                stop = min(start + _ENCODED_AT_ONCE, rows.stop)
                texts = [_text(passage) for batch in corpus.batches(start, stop) for passage in batch]
                yield encoder.encode_passages(texts)
                advance(len(texts))

        _vector_index(parameters.index).write(vectors(), rows, shared, folder, parameters)

    @staticmethod
    def check_shared(shared: Path, parameters: DenseParameters) -> None:
        """Read what `index` has trained."""
        if parameters.index == "ivfpq":
            from exsearch.retrieval.dense_faiss import IvfPq

            IvfPq.check_trained(shared)

    @staticmethod
    def check_segment(segment: Segment, shared: Path, parameters: DenseParameters) -> None:
        """Map the vectors."""
        dimensions = read_json(shared / ENCODER, EncoderInfo).dimensions
        _vector_index(parameters.index).check(segment, shared, dimensions)

    @staticmethod
    def indivisible(parameters: DenseParameters) -> str | None:
        """Name the graphs, where there are some."""
        return _vector_index(parameters.index).indivisible()

    @staticmethod
    def merge_segments(
        parts: list[Segment], deleted: list[Rows], shared: Path, folder: Path, parameters: DenseParameters
    ) -> bool:
        """Put the vectors together, none of which is encoded again."""
        return _vector_index(parameters.index).merge(parts, deleted, shared, folder, parameters)

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits a query, best first, equal scores in row order; none for a blank query."""
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
        from exsearch.retrieval.dense_flat import Flat

        return Flat
    from exsearch.retrieval.dense_faiss import Hnsw, IvfPq

    return IvfPq if name == "ivfpq" else Hnsw


def _text(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}"


def _encoder(parameters: DenseParameters, precision: str) -> SentenceEncoder:
    return SentenceEncoder(parameters.encoder, precision, parameters.query_prompt, parameters.passage_prompt)


@functools.lru_cache(maxsize=1)
def _passage_encoder(parameters: DenseParameters, precision: str) -> SentenceEncoder:
    """Return the encoder; a build needs it for each segment."""
    return _encoder(parameters, precision)


def _fresh_encoder(parameters: DenseParameters) -> SentenceEncoder:
    """Load the encoder anew: its folder may hold other weights than when this process last used it."""
    _passage_encoder.cache_clear()
    return _passage_encoder(parameters, best_precision())
