"""Late interaction: every token of the query finds its best match among the tokens of a passage (MaxSim).

Candidates come from BM25, from the mean of each passage's token vectors, or from both. Only their stored token vectors
are read, and their MaxSim scores rank them. On real questions this keeps nearly all of the gain of comparing every
passage, and reads a few hundred kilobytes per query. Vectors are product-quantised to `token_bytes` (codec.py).

    shared/mean.npy, axes.npy, centroids.npy    the quantiser, trained on passages spread over the corpus
    segments/../codes.u8                        one byte per group of dimensions and token, memory-mapped
    segments/../offsets.npy                     int64, where each passage's tokens start
    segments/../bm25/                           the inverted file for candidates
    segments/../means.npy                       int8 [passages, dimensions], directions of the passages' means

A passage without a word has no tokens, and is never a hit.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json
from exsearch.core.mapping import map_array, map_bytes, save_array
from exsearch.corpus.layout import Rows
from exsearch.corpus.passage import Hit
from exsearch.corpus.store import Corpus, none_deleted
from exsearch.retrieval.bm25.bm25 import Bm25, Bm25Parameters
from exsearch.retrieval.encoders.base import EMBEDDED
from exsearch.retrieval.encoders.token_encoder import TokenEncoder, encoder_of_build, fresh_encoder, text_blocks
from exsearch.retrieval.index.folder import EncoderInfo, IndexSegment, OpenedIndex, StemmerInfo, require_same_encoder
from exsearch.retrieval.late.codec import Codec, Floats, inner_products, max_similarity
from exsearch.retrieval.rank import BestRows, Ranked, to_hits

_SAMPLED_PASSAGES = 2048


class LateParameters(msgspec.Struct, frozen=True):
    """Settings of a late-interaction index."""

    encoder: str = EMBEDDED
    """The embedded encoder, a folder or a hub id."""
    token_bytes: Annotated[int, msgspec.Meta(ge=4, le=1024)] = 48
    """Bytes per quantised token; at most the encoder's dimensions."""
    max_tokens: Annotated[int, msgspec.Meta(ge=8, le=8192)] = 256
    """Maximum tokens of passages and queries; longer ones are truncated."""
    candidates: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 100
    """Number of candidates from each source; at least k."""
    sources: Literal["bm25", "means", "both"] = "both"
    """Sources of candidates. `bm25` alone avoids a scan over one byte per dimension and passage for each query."""


class Vectors:
    """The memory-mapped vectors of one segment: the quantised ones of the tokens, and the passages' means."""

    def __init__(self, segment: IndexSegment, codec: Codec, deleted: npt.NDArray[np.int64]) -> None:
        """Map the files. `deleted` is counted from the first row. Raises ValueError if they do not fit together."""
        self.rows = segment.rows
        self.offsets = map_array(segment.folder / "offsets.npy")
        self.means = map_array(segment.folder / "means.npy")
        codes = map_bytes(segment.folder / "codes.u8")
        tokens = int(self.offsets[-1]) if len(self.offsets) else 0
        if (
            len(self.offsets) != len(segment.rows) + 1
            or self.offsets[0] != 0
            or (np.diff(self.offsets) < 0).any()
            or len(codes) != tokens * codec.groups
            or self.means.shape != (len(segment.rows), codec.axes.shape[1])
        ):
            raise ValueError(f"the files in {segment.folder} do not fit together")
        self.excluded = np.diff(self.offsets) == 0
        """[passages], whether a passage has no word or is deleted."""
        self.excluded[deleted] = True
        self.codes = codes.reshape(tokens, codec.groups)


class Late:
    """Exact MaxSim over quantised vectors, for the candidates."""

    Parameters = LateParameters
    version: ClassVar[int] = Bm25.version
    """Version of this kind; its segments also depend on that of `bm25`."""
    segment_rows: ClassVar[int] = 1 << 15

    def __init__(self, opened: OpenedIndex) -> None:
        """Map the vectors and load the encoder."""
        parameters: LateParameters = opened.parameters
        if opened.info.encoder is None:
            raise ValueError("index.json names no encoder")
        self.fingerprint = opened.fingerprint
        self._corpus = opened.corpus
        self._parameters = parameters
        self._codec = Codec.load(opened.shared)
        self._vectors = [
            Vectors(segment, self._codec, opened.corpus.deleted_in(segment.rows)) for segment in opened.segments
        ]
        self._starts = np.array([segment.rows.start for segment in opened.segments])
        inverted = [_inverted(segment) for segment in opened.segments]
        self._bm25 = Bm25(dataclasses.replace(opened, parameters=Bm25Parameters(), segments=inverted))
        self._encoder = TokenEncoder(parameters.encoder)
        require_same_encoder(self._encoder.info, opened.info.encoder, opened.folder)

    @staticmethod
    def encoder_hash(parameters: LateParameters) -> str:
        """Return the content hash of the encoder as it is now."""
        return fresh_encoder(parameters.encoder).info.hash

    @staticmethod
    def prepare(corpus: Corpus, shared: Path, parameters: LateParameters) -> EncoderInfo:
        """Train the quantiser on passages spread evenly over the corpus."""
        encoder = fresh_encoder(parameters.encoder)
        if parameters.token_bytes > encoder.info.dimensions:
            raise UsageError(
                f"token_bytes = {parameters.token_bytes}, but encoder {encoder.info.id!r} has "
                f"{encoder.info.dimensions} dimensions"
            )
        rows = np.unique(np.linspace(0, len(corpus) - 1, _SAMPLED_PASSAGES).astype(np.int64))
        texts = [f"{passage.title}\n{passage.text}" for passage in corpus.rows(rows.tolist())]
        sample = np.concatenate(encoder.encode_passages(texts, parameters.max_tokens))
        if len(sample) < 2:
            raise UsageError(f"{corpus.folder}: no passage contains a word")
        Codec.train(sample, parameters.token_bytes).save(shared)
        return encoder.info

    @staticmethod
    def build_segment(
        corpus: Corpus,
        rows: range,
        shared: Path,
        folder: Path,
        parameters: LateParameters,
        advance: Callable[[int], None],
    ) -> None:
        """Encode and quantise the passages of `rows`, title and text."""
        encoder, codec = encoder_of_build(parameters.encoder), Codec.load(shared)
        if (shared / "encoder.json").is_file():  # the index is being extended
            require_same_encoder(encoder.info, read_json(shared / "encoder.json", EncoderInfo), folder)
        lengths: list[int] = []
        means: list[npt.NDArray[np.int8]] = []
        with (folder / "codes.u8").open("wb") as file:
            for texts in text_blocks(corpus, rows):
                vectors = encoder.encode_passages(texts, parameters.max_tokens, advance)
                lengths += map(len, vectors)
                means.append(np.stack([codec.mean_direction(of_passage) for of_passage in vectors]))
                file.write(codec.encode(np.concatenate(vectors)).tobytes())
        save_array(folder / "offsets.npy", np.cumsum([0, *lengths], dtype=np.int64))
        save_array(folder / "means.npy", np.concatenate(means))
        inverted = folder / "bm25"
        inverted.mkdir()
        Bm25.build_segment(corpus, rows, shared, inverted, Bm25Parameters(), lambda count: None)

    @staticmethod
    def check_shared(shared: Path, parameters: LateParameters) -> None:
        """Read the quantiser."""
        Codec.load(shared)

    @staticmethod
    def check_segment(segment: IndexSegment, shared: Path, parameters: LateParameters) -> None:
        """Map the vectors and the inverted file."""
        Vectors(segment, Codec.load(shared), none_deleted())
        Bm25.check_segment(_inverted(segment), shared, Bm25Parameters())

    @staticmethod
    def stemmer() -> StemmerInfo:
        """Return that of the inverted file."""
        return Bm25.stemmer()

    @staticmethod
    def indivisible(parameters: LateParameters) -> None:
        """Return None: passages are compared one by one, and all segments share the quantiser."""

    @staticmethod
    def merge_segments(
        parts: list[IndexSegment], deleted: list[Rows], shared: Path, folder: Path, parameters: LateParameters
    ) -> bool:
        """Concatenate the vectors and the inverted files; deleted passages keep their means, but no tokens."""
        codec = Codec.load(shared)
        lengths: list[npt.NDArray[np.int64]] = []
        means: list[npt.NDArray[np.int8]] = []
        with (folder / "codes.u8").open("wb") as file:
            for part, deleted_rows in zip(parts, deleted, strict=True):
                vectors = Vectors(part, codec, none_deleted())
                tokens = np.diff(vectors.offsets)
                stays = np.ones(len(part.rows), dtype=np.bool_)
                stays[deleted_rows] = False
                file.write(vectors.codes[np.repeat(stays, tokens)].tobytes())
                lengths.append(np.where(stays, tokens, 0))
                means.append(vectors.means)
        save_array(folder / "offsets.npy", np.concatenate([[0], np.cumsum(np.concatenate(lengths))]))
        save_array(folder / "means.npy", np.concatenate(means))
        inverted = folder / "bm25"
        inverted.mkdir()
        return Bm25.merge_segments([_inverted(part) for part in parts], deleted, shared, inverted, Bm25Parameters())

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query, best first; none for a query without a known word."""
        return to_hits(self._corpus, self.rank(queries, k))

    def rank(self, queries: list[str], k: int) -> list[Ranked]:
        """Return the rows and scores of the at most `k` best passages per query."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        encoded = self._encoder.encode_queries(queries, self._parameters.max_tokens) if queries else []
        return self.rank_encoded(queries, encoded, k)

    def rank_encoded(self, queries: list[str], encoded: list[Floats], k: int) -> list[Ranked]:
        """Do the same as `rank` for queries that are encoded already, as [tokens, encoder's dimensions] each."""
        count, sources = max(k, self._parameters.candidates), self._parameters.sources
        candidates: list[list[npt.NDArray[np.int64]]] = [[] for _ in queries]
        if sources != "means":
            for candidate_rows, (rows, _) in zip(candidates, self._bm25.rank(queries, count), strict=True):
                candidate_rows.append(rows)
        if sources != "bm25":
            for candidate_rows, query in zip(candidates, encoded, strict=True):
                candidate_rows.append(self._nearest_means(query, count))
        return [
            self._rerank(query, np.unique(np.concatenate(candidate_rows)), k)
            for query, candidate_rows in zip(encoded, candidates, strict=True)
        ]

    def _nearest_means(self, query: Floats, count: int) -> npt.NDArray[np.int64]:
        """Return the rows of the `count` passages whose means are nearest to the query's; none without a word."""
        best = BestRows(min(count, len(self._corpus)))
        if not len(query):
            return best.ranked()[0]
        direction = self._codec.mean_direction(query)
        for vectors in self._vectors:
            scores = np.empty(len(vectors.rows), dtype=np.float32)
            inner_products(scores, vectors.means, direction)
            scores[vectors.excluded] = -np.inf
            best.offer(scores, vectors.rows.start, above=-np.inf)
        return best.ranked()[0]

    def _rerank(self, query: Floats, rows: npt.NDArray[np.int64], k: int) -> Ranked:
        """Return the at most `k` best of `rows`, ascending, by MaxSim with the query's vectors [tokens, dimensions]."""
        scores = np.full(len(rows), -np.inf, dtype=np.float32)
        if len(query):
            tables = self._codec.tables(query)
            owner = np.searchsorted(self._starts, rows, side="right") - 1
            for number in np.unique(owner):
                mine, part = owner == number, self._vectors[number]
                local = rows[mine] - part.rows.start
                scores[mine] = max_similarity(tables, part.codes, part.offsets[local], part.offsets[local + 1])
        order = np.argsort(-scores, kind="stable")[:k]
        order = order[np.isfinite(scores[order])]
        return rows[order], scores[order]


def _inverted(segment: IndexSegment) -> IndexSegment:
    """Return the inverted file of a segment as a segment of BM25."""
    return IndexSegment(segment.rows, segment.folder / "bm25")
