"""PLAID by fast-plaid, for GPUs: candidates by clusters of token vectors, then compared by residuals of a few bits.

Needs the build of torch that fast-plaid was compiled for. On CPUs, `late` is faster and its index no larger.

    segments/../plaid/      fast-plaid's files
    segments/../rows.npy    int64, the row of each of its passages; passages without a word are not included
"""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json
from exsearch.core.mapping import load_array, save_array
from exsearch.corpus.passage import Hit
from exsearch.corpus.store import Corpus
from exsearch.processes import compute
from exsearch.retrieval.encoders.base import EMBEDDED
from exsearch.retrieval.encoders.token_encoder import TokenEncoder, encoder_of_build, fresh_encoder, text_blocks
from exsearch.retrieval.index.folder import EncoderInfo, IndexSegment, OpenedIndex, require_same_encoder
from exsearch.retrieval.rank import Ranked, to_hits


class PlaidParameters(msgspec.Struct, frozen=True):
    """Settings of a PLAID index."""

    encoder: str = EMBEDDED
    """The embedded encoder, a folder or a hub id."""
    bits: Literal[1, 2, 4] = 2
    """Bits per dimension of a residual."""
    max_tokens: Annotated[int, msgspec.Meta(ge=8, le=8192)] = 256
    """Maximum tokens of passages and queries; longer ones are truncated."""
    probes: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 8
    """Number of clusters searched per query token."""
    full_scores: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 4096
    """Number of candidates compared by all their tokens."""


class Plaid:
    """One fast-plaid index per segment; their results are merged by score."""

    Parameters = PlaidParameters
    version: ClassVar[int] = 1
    segment_rows: ClassVar[int] = 1 << 17

    def __init__(self, opened: OpenedIndex) -> None:
        """Load the segments, onto a GPU if there is one, and the encoder."""
        if opened.info.encoder is None:
            raise ValueError("index.json names no encoder")
        self.fingerprint = opened.fingerprint
        self._corpus = opened.corpus
        self._parameters: PlaidParameters = opened.parameters
        worded = {  # a segment without any word has no index
            segment.folder / "plaid": rows for segment in opened.segments if len(rows := _rows_of(segment))
        }
        self._rows = list(worded.values())
        self._gone = [int(np.isin(rows, self._corpus.deleted).sum()) for rows in self._rows]
        self._parts = [_fast_plaid(folder) for folder in worded]
        self._encoder = TokenEncoder(self._parameters.encoder)
        require_same_encoder(self._encoder.info, opened.info.encoder, opened.folder)

    @staticmethod
    def encoder_hash(parameters: PlaidParameters) -> str:
        """Return the content hash of the encoder as it is now."""
        return fresh_encoder(parameters.encoder).info.hash

    @staticmethod
    def prepare(corpus: Corpus, shared: Path, parameters: PlaidParameters) -> EncoderInfo:
        """Return the encoder; segments share nothing else."""
        require_library()
        return fresh_encoder(parameters.encoder).info

    @staticmethod
    def build_segment(
        corpus: Corpus,
        rows: range,
        shared: Path,
        folder: Path,
        parameters: PlaidParameters,
        advance: Callable[[int], None],
    ) -> None:
        """Encode the passages of `rows`, title and text, and pass them to fast-plaid all at once, in float16."""
        encoder = encoder_of_build(parameters.encoder)
        if (shared / "encoder.json").is_file():  # the index is being extended
            require_same_encoder(encoder.info, read_json(shared / "encoder.json", EncoderInfo), folder)
        vectors: list[torch.Tensor] = []
        worded_rows: list[int] = []
        row = rows.start
        for texts in text_blocks(corpus, rows):
            for vectors_of_text in encoder.encode_passages(texts, parameters.max_tokens, advance):
                if len(vectors_of_text):
                    vectors.append(torch.from_numpy(vectors_of_text).half())
                    worded_rows.append(row)
                row += 1
        save_array(folder / "rows.npy", np.array(worded_rows, dtype=np.int64))
        if vectors:
            (folder / "plaid").mkdir()
            # the threshold, below which it would keep all vectors uncompressed
            new = _fast_plaid(folder / "plaid")
            compute.run(lambda: new.create(vectors, nbits=parameters.bits, start_from_scratch=0))

    @staticmethod
    def check_shared(shared: Path, parameters: PlaidParameters) -> None:
        """Do nothing: segments share only the encoder."""

    @staticmethod
    def check_segment(segment: IndexSegment, shared: Path, parameters: PlaidParameters) -> None:
        """Check that fast-plaid's files exist."""
        _rows_of(segment)

    @staticmethod
    def indivisible(parameters: PlaidParameters) -> str:
        """Name the clusters, which each segment has of its own."""
        return "clusters"

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query, best first; none for a query without a word."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        encoded = self._encoder.encode_queries(queries, self._parameters.max_tokens) if queries else []
        worded = [number for number, vectors in enumerate(encoded) if len(vectors)]
        ranked: list[Ranked] = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        tensors = [torch.from_numpy(encoded[number]) for number in worded]
        for number, best in zip(worded, self._rank(tensors, k), strict=True):
            ranked[number] = best
        return to_hits(self._corpus, ranked)

    def _rank(self, queries: list[torch.Tensor], k: int) -> list[Ranked]:
        if not queries:
            return []
        results: list[list[Ranked]] = [[] for _ in queries]
        for rows, deleted, part in zip(self._rows, self._gone, self._parts, strict=True):
            for own, pairs in zip(results, self._search_part(part, queries, min(k + deleted, len(rows))), strict=True):
                own.append((rows[[place for place, _ in pairs]], np.array([s for _, s in pairs], dtype=np.float32)))
        return [self._best(own, k) for own in results]

    @compute.owned
    def _search_part(self, part: Any, queries: list[torch.Tensor], k: int) -> list[list[tuple[int, float]]]:
        settings = self._parameters
        result: list[list[tuple[int, float]]] = part.search(
            queries,
            top_k=k,
            n_full_scores=max(settings.full_scores, k),
            n_ivf_probe=settings.probes,
            show_progress=False,
        )
        return result

    def _best(self, parts: list[Ranked], k: int) -> Ranked:
        """Merge the segments' results, without deleted passages; equal scores rank by row."""
        rows: npt.NDArray[np.int64] = np.concatenate([rows for rows, _ in parts])
        scores: npt.NDArray[np.float32] = np.concatenate([scores for _, scores in parts])
        there = ~np.isin(rows, self._corpus.deleted)
        rows, scores = rows[there], scores[there]
        order = np.lexsort((rows, -scores))[:k]
        return rows[order], scores[order]


def _rows_of(segment: IndexSegment) -> npt.NDArray[np.int64]:
    """Return the rows of a segment that fast-plaid has. Raises OSError or ValueError if files are missing or torn."""
    rows: npt.NDArray[np.int64] = load_array(segment.folder / "rows.npy")
    if len(rows) and not (segment.folder / "plaid").is_dir():
        raise ValueError(f"there is no {segment.folder / 'plaid'}")
    return rows


@compute.owned
def _fast_plaid(folder: Path) -> Any:
    require_library()
    from fast_plaid.search import FastPlaid

    return FastPlaid(str(folder), device="cuda" if torch.cuda.is_available() else "cpu")


def require_library() -> None:
    """Raise UsageError unless fast-plaid is installed with its build of torch; with another, it crashes the process."""
    try:
        version = importlib.metadata.version("fast-plaid")
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(
            "a plaid index needs fast-plaid: pip install 'exsearch[plaid]'; `late` needs no extra"
        ) from None
    digits = version.rsplit(".", 1)[-1]
    required = f"{digits[0]}.{digits[1:-1]}.{digits[-1]}"  # 2110 is torch 2.11.0
    if torch.__version__.split("+")[0] != required:
        raise UsageError(
            f"fast-plaid {version} is compiled for torch {required} and crashes with torch {torch.__version__}; "
            f"install that version of torch, or use `late`"
        )
