"""Vectors in FAISS indexes, memory-mapped.

    ivfpq    shared/trained.faiss       centroids and quantiser
             segments/../lists.faiss    which passages are in each cluster, with their codes
    hnsw     segments/../graph.faiss    vectors in float16 and their graph

FAISS and torch live in one process: each brings an OpenMP library, but the dynamic linker takes the first that was
loaded for both, so that setting the number of threads of either sets it for both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exsearch.errors import UsageError
from exsearch.retrieval.index import OpenedIndex
from exsearch.retrieval.ranking import Ranked

if TYPE_CHECKING:
    from exsearch.retrieval.dense import DenseParameters

try:
    import faiss
except ImportError:
    raise UsageError("this dense index needs FAISS: pip install 'exsearch[retrieval]'") from None

Floats = npt.NDArray[np.float32]
_VECTORS_A_CENTROID = 39
"""To train on; FAISS thinks fewer too few."""


class IvfPq:
    """Looks into the clusters nearest to the query, at compressed vectors: scores are approximate."""

    def __init__(self, opened: OpenedIndex, dimensions: int) -> None:
        """Map the lists of all segments as one index; raises ValueError if the files are damaged."""
        with _damage_reported():
            self._index = faiss.read_index(str(opened.shared / "trained.faiss"))
            # the index refers to these without owning them
            self._lists = [
                faiss.read_InvertedLists(faiss.FileIOReader(str(segment.folder / "lists.faiss")), faiss.IO_FLAG_MMAP)
                for segment in opened.segments
            ]
            pointers = faiss.InvertedListsPtrVector()
            for lists in self._lists:
                pointers.push_back(lists)
            self._stacked = faiss.HStackInvertedLists(pointers.size(), pointers.data())
            self._index.replace_invlists(self._stacked, False)
        self._index.ntotal = self._stacked.compute_ntotal()
        if self._index.ntotal != len(opened.corpus) or self._index.d != dimensions:
            raise ValueError("its files do not fit together")
        self._parameters = faiss.SearchParametersIVF(
            nprobe=opened.parameters.nprobe, sel=_all_but(opened.corpus.deleted)
        )

    @staticmethod
    def train(sample: Callable[[int], Floats], passages: int, shared: Path, parameters: "DenseParameters") -> None:
        """Find centroids and quantiser, the same ones whenever the sample is the same."""
        codes = 2**parameters.bits
        lists = parameters.nlist or round(passages**0.5)
        vectors = sample(_VECTORS_A_CENTROID * max(codes, lists))
        if len(vectors) < max(codes, lists):
            raise UsageError(
                f"ivfpq with {lists} lists and {parameters.bits} bits needs {max(codes, lists)} passages to train on, "
                f"there are {len(vectors)}; take index = flat"
            )
        dimensions = vectors.shape[1]
        if dimensions % parameters.m:
            raise UsageError(f"ivfpq: m = {parameters.m} does not divide the encoder's {dimensions} dimensions")
        index = faiss.IndexIVFPQ(
            faiss.IndexFlatIP(dimensions), dimensions, lists, parameters.m, parameters.bits, faiss.METRIC_INNER_PRODUCT
        )
        for clustering in (index.cp, index.pq.cp):
            clustering.min_points_per_centroid = 1  # a small corpus is no reason for a warning a cluster
        index.train(vectors)
        faiss.write_index(index, str(shared / "trained.faiss"))

    @staticmethod
    def write(
        vectors: Iterator[Floats], rows: range, shared: Path, folder: Path, parameters: "DenseParameters"
    ) -> None:
        """Compress the vectors block by block; memory: the segment's codes."""
        index = faiss.read_index(str(shared / "trained.faiss"))
        start = rows.start
        for block in vectors:
            index.add_with_ids(block, np.arange(start, start + len(block)))
            start += len(block)
        faiss.write_InvertedLists(index.invlists, faiss.FileIOWriter(str(folder / "lists.faiss")))

    def rank(self, queries: Floats, k: int) -> list[Ranked]:
        """Return the rows of about the `k` best passages for each query, equal scores in row order."""
        scores, rows = self._index.search(queries, k, params=self._parameters)
        return [_ranked(*found, k) for found in zip(rows, scores, strict=True)]


class Hnsw:
    """Walks a graph of near neighbours; what it finds is scored exactly."""

    def __init__(self, opened: OpenedIndex, dimensions: int) -> None:
        """Map the graphs; raises ValueError if the files are damaged."""
        self._ef_search: int = opened.parameters.ef_search
        self._segments = []
        for segment in opened.segments:
            with _damage_reported():
                graph = faiss.read_index(str(segment.folder / "graph.faiss"), faiss.IO_FLAG_MMAP_IFC)
            if graph.ntotal != len(segment.rows) or graph.d != dimensions:
                raise ValueError("its files do not fit together")
            self._segments.append((segment.rows.start, graph, _all_but(opened.corpus.deleted_in(segment.rows))))

    @staticmethod
    def train(sample: Callable[[int], Floats], passages: int, shared: Path, parameters: "DenseParameters") -> None:
        """Nothing is shared."""

    @staticmethod
    def write(
        vectors: Iterator[Floats], rows: range, shared: Path, folder: Path, parameters: "DenseParameters"
    ) -> None:
        """Build the graph on one thread, so that it is the same every time; memory: the segment's vectors."""
        graph = None
        for block in vectors:
            if graph is None:
                kind = faiss.ScalarQuantizer.QT_fp16
                graph = faiss.IndexHNSWSQ(block.shape[1], kind, parameters.links, faiss.METRIC_INNER_PRODUCT)
                graph.hnsw.efConstruction = parameters.ef_construction
            with _one_thread():
                graph.add(block)
        faiss.write_index(graph, str(folder / "graph.faiss"))

    def rank(self, queries: Floats, k: int) -> list[Ranked]:
        """Return the rows of about the `k` best passages for each query, equal scores in row order."""
        found: list[tuple[npt.NDArray[np.int64], Floats]] = []
        for start, graph, selected in self._segments:
            parameters = faiss.SearchParametersHNSW(efSearch=max(self._ef_search, k), sel=selected)
            scores, rows = graph.search(queries, min(k, graph.ntotal), params=parameters)
            found.append((np.where(rows >= 0, rows + start, -1), scores))
        rows, scores = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
        return [_ranked(*of_query, k) for of_query in zip(rows, scores, strict=True)]


def _all_but(rows: npt.NDArray[np.int64]) -> Any:
    return faiss.IDSelectorNot(faiss.IDSelectorBatch(rows)) if len(rows) else None


def _ranked(rows: npt.NDArray[np.int64], scores: Floats, k: int) -> Ranked:
    """Sort what FAISS found; a row of -1 is a place that it could not fill."""
    order = np.lexsort((rows, -scores))
    order = order[rows[order] >= 0][:k]
    return rows[order], scores[order]


@contextmanager
def _damage_reported() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # FAISS's only kind
        raise ValueError(str(error).splitlines()[0]) from None


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
