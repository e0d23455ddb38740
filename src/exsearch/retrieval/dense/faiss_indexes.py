"""Vectors in FAISS indexes, memory-mapped.

    ivfpq    shared/trained.faiss       centroids and quantiser
             shared/trained.faiss       centroids and quantiser
    hnsw     segments/../graph.faiss    vectors in float16 and their graph

FAISS and torch share a process: each brings an OpenMP library, but the dynamic linker uses the one loaded first for
both, so that setting the number of threads of either sets it for both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exsearch.core.errors import UsageError
from exsearch.core.trouble import probe
from exsearch.corpus.layout import Rows
from exsearch.retrieval.dense.base import DenseParameters, Floats
from exsearch.retrieval.index.folder import IndexSegment, OpenedIndex
from exsearch.retrieval.rank import Ranked

try:
    import faiss
except ImportError:
    raise UsageError("this dense index needs FAISS: pip install 'exsearch[retrieval]'") from None

_TRAINED, _LISTS, _GRAPH = "trained.faiss", "lists.faiss", "graph.faiss"
_VECTORS_A_CENTROID = 39
"""Vectors to train on; with fewer, FAISS warns that they are too few."""
_VECTORS_AT_ONCE = 1024
"""Vectors added to a graph at once. FAISS orders them by level within a block, so the graph depends on this number."""

_WRITTEN_AT_ONCE = 1 << 20
"""Bytes."""


class IvfPq:
    """Searches the clusters nearest to the query, with compressed vectors: scores are approximate."""

    def __init__(self, opened: OpenedIndex, dimensions: int) -> None:
        """Map the lists of all segments as one index. Raises OSError or ValueError if the files are damaged."""
        self._index = _trained(opened.shared)
        # the index refers to these without owning them
        self._lists = [_mapped_lists(segment) for segment in opened.segments]
        with _damage_reported():
            pointers = faiss.InvertedListsPtrVector()
            for lists in self._lists:
                pointers.push_back(lists)
            self._stacked = faiss.HStackInvertedLists(pointers.size(), pointers.data())
            self._index.replace_invlists(self._stacked, False)
        self._index.ntotal = self._stacked.compute_ntotal()
        if self._index.d != dimensions:
            raise ValueError("its files do not fit together")
        self._parameters = faiss.SearchParametersIVF(
            nprobe=opened.parameters.nprobe, sel=_all_but(opened.corpus.deleted)
        )

    @staticmethod
    def train(sample: Callable[[int], Floats], passages: int, shared: Path, parameters: DenseParameters) -> None:
        """Train centroids and quantiser; deterministic for equal samples."""
        codes = 2**parameters.bits
        lists = parameters.nlist or round(passages**0.5)
        vectors = sample(_VECTORS_A_CENTROID * max(codes, lists))
        if len(vectors) < max(codes, lists):
            raise UsageError(
                f"ivfpq with {lists} lists and {parameters.bits} bits needs {max(codes, lists)} passages to train on, "
                f"there are {len(vectors)}; use index = flat"
            )
        dimensions = vectors.shape[1]
        if dimensions % parameters.m:
            raise UsageError(f"ivfpq: m = {parameters.m} does not divide the encoder's {dimensions} dimensions")
        index = faiss.IndexIVFPQ(
            faiss.IndexFlatIP(dimensions), dimensions, lists, parameters.m, parameters.bits, faiss.METRIC_INNER_PRODUCT
        )
        for clustering in (index.cp, index.pq.cp):
            clustering.min_points_per_centroid = 1  # no warning per cluster for a small corpus
        index.train(vectors)
        _write(shared / _TRAINED, lambda writer: faiss.write_index(index, writer))

    @staticmethod
    def write(vectors: Iterator[Floats], rows: range, shared: Path, folder: Path, parameters: DenseParameters) -> None:
        """Compress the vectors block by block; needs memory for the segment's codes."""
        index = _trained(shared)
        start = rows.start
        for block in vectors:
            index.add_with_ids(block, np.arange(start, start + len(block)))
            start += len(block)
        _write_lists(index.invlists, folder)

    @staticmethod
    def check_trained(shared: Path) -> None:
        """Read centroids and quantiser. Raises OSError or ValueError if the file is damaged."""
        _trained(shared)

    @staticmethod
    def indivisible() -> None:
        """Return None: the lists of all segments are searched as one."""

    @staticmethod
    def check(segment: IndexSegment, shared: Path, dimensions: int) -> None:
        """Map a segment's lists."""
        _mapped_lists(segment)

    @staticmethod
    def merge(
        parts: list[IndexSegment], deleted: list[Rows], shared: Path, folder: Path, parameters: DenseParameters
    ) -> bool:
        """Concatenate the lists, without deleted passages."""
        opened = [_mapped_lists(part) for part in parts]
        deleted_rows = np.concatenate([rows + part.rows.start for part, rows in zip(parts, deleted, strict=True)])
        size = opened[0].code_size
        merged = faiss.ArrayInvertedLists(opened[0].nlist, size)
        for number in range(merged.nlist):
            for lists in opened:
                count = lists.list_size(number)
                ids = faiss.rev_swig_ptr(lists.get_ids(number), count)
                stays = ~np.isin(ids, deleted_rows)
                codes = faiss.rev_swig_ptr(lists.get_codes(number), count * size).reshape(count, size)
                ids, codes = np.ascontiguousarray(ids[stays]), np.ascontiguousarray(codes[stays])
                merged.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
        _write_lists(merged, folder)
        return True

    def rank(self, queries: Floats, k: int) -> list[Ranked]:
        """Return the rows of approximately the `k` best passages per query; equal scores in row order."""
        scores, rows = self._index.search(queries, k, params=self._parameters)
        return [_ranked(*result, k) for result in zip(rows, scores, strict=True)]


class Hnsw:
    """Walks a graph of near neighbours; the passages found are scored exactly."""

    def __init__(self, opened: OpenedIndex, dimensions: int) -> None:
        """Map the graphs; raises OSError or ValueError if the files are damaged."""
        self._ef_search: int = opened.parameters.ef_search
        self._segments = [
            (segment.rows.start, _mapped_graph(segment, dimensions), _all_but(opened.corpus.deleted_in(segment.rows)))
            for segment in opened.segments
        ]

    @staticmethod
    def train(sample: Callable[[int], Floats], passages: int, shared: Path, parameters: DenseParameters) -> None:
        """Do nothing: segments share nothing."""

    @staticmethod
    def write(vectors: Iterator[Floats], rows: range, shared: Path, folder: Path, parameters: DenseParameters) -> None:
        """Build the graph in one thread, so that it is reproducible; needs memory for the segment's vectors."""
        graph = None
        for block in _reblocked(vectors):
            if graph is None:
                kind = faiss.ScalarQuantizer.QT_fp16
                graph = faiss.IndexHNSWSQ(block.shape[1], kind, parameters.links, faiss.METRIC_INNER_PRODUCT)
                graph.hnsw.efConstruction = parameters.ef_construction
            with _one_thread():
                graph.add(block)
        _write(folder / _GRAPH, lambda writer: faiss.write_index(graph, writer))

    @staticmethod
    def indivisible() -> str:
        """Name the graphs, which each segment has of its own."""
        return "graphs of float16 vectors"

    @staticmethod
    def check(segment: IndexSegment, shared: Path, dimensions: int) -> None:
        """Map a segment's graph."""
        _mapped_graph(segment, dimensions)

    @staticmethod
    def merge(
        parts: list[IndexSegment], deleted: list[Rows], shared: Path, folder: Path, parameters: DenseParameters
    ) -> bool:
        """Build one graph from the vectors in the parts' graphs; a vector's position is its row, so none is dropped."""
        graphs = (_mapped_graph(part) for part in parts)
        Hnsw.write((graph.reconstruct_n(0, graph.ntotal) for graph in graphs), range(0), shared, folder, parameters)
        return False

    def rank(self, queries: Floats, k: int) -> list[Ranked]:
        """Return the rows of approximately the `k` best passages per query; equal scores in row order."""
        results: list[tuple[npt.NDArray[np.int64], Floats]] = []
        for start, graph, selected in self._segments:
            parameters = faiss.SearchParametersHNSW(efSearch=max(self._ef_search, k), sel=selected)
            scores, rows = graph.search(queries, min(k, graph.ntotal), params=parameters)
            results.append((np.where(rows >= 0, rows + start, -1), scores))
        rows, scores = (np.concatenate(part, axis=1) for part in zip(*results, strict=True))
        return [_ranked(*of_query, k) for of_query in zip(rows, scores, strict=True)]


def _trained(shared: Path) -> Any:
    return _read(shared / _TRAINED, faiss.read_index)


def _mapped_lists(segment: IndexSegment) -> Any:
    def read(path: str) -> Any:
        return faiss.read_InvertedLists(faiss.FileIOReader(path), faiss.IO_FLAG_MMAP)

    lists = _read(segment.folder / _LISTS, read)
    if lists.compute_ntotal() != len(segment.rows) - len(segment.dropped()):
        raise ValueError("its files do not fit together")
    return lists


def _write_lists(lists: Any, folder: Path) -> None:
    _write(folder / _LISTS, lambda writer: faiss.write_InvertedLists(lists, writer))


def _mapped_graph(segment: IndexSegment, dimensions: int | None = None) -> Any:
    graph = _read(segment.folder / _GRAPH, lambda path: faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC))
    if graph.ntotal != len(segment.rows) or dimensions not in (None, graph.d):
        raise ValueError("its files do not fit together")
    return graph


def _write(path: Path, write: Callable[[Any], None]) -> None:
    """Let FAISS write a file; raises OSError. FAISS's own file writer ignores errors at closing."""
    with path.open("wb") as file:
        write(faiss.PyCallbackIOWriter(file.write, _WRITTEN_AT_ONCE))


def _read(path: Path, reader: Callable[[str], Any]) -> Any:
    """Let FAISS read a file. Raises OSError if it cannot be opened, ValueError if it is damaged."""
    path.stat()
    probe(path)
    with _damage_reported():
        return reader(str(path))


def _reblocked(vectors: Iterator[Floats]) -> Iterator[Floats]:
    """Yield the same vectors in blocks of equal size, rounded to the precision that a graph stores.

    So a graph depends only on the vectors, and rebuilding it from the vectors of another graph gives the same one.
    """
    waiting: list[Floats] = []
    for block in vectors:
        waiting.append(block.astype(np.float16).astype(np.float32))
        if sum(map(len, waiting)) >= _VECTORS_AT_ONCE:
            together = np.concatenate(waiting)
            full = len(together) // _VECTORS_AT_ONCE * _VECTORS_AT_ONCE
            yield from together[:full].reshape(-1, _VECTORS_AT_ONCE, together.shape[1])
            waiting = [together[full:]]
    if any(map(len, waiting)):
        yield np.concatenate(waiting)


def _all_but(rows: npt.NDArray[np.int64]) -> Any:
    return faiss.IDSelectorNot(faiss.IDSelectorBatch(rows)) if len(rows) else None


def _ranked(rows: npt.NDArray[np.int64], scores: Floats, k: int) -> Ranked:
    """Sort FAISS's results; it fills empty places with row -1."""
    order = np.lexsort((rows, -scores))
    order = order[rows[order] >= 0][:k]
    return rows[order], scores[order]


@contextmanager
def _damage_reported() -> Iterator[None]:
    try:
        yield
    except RuntimeError:  # the only error that FAISS raises
        raise ValueError("FAISS cannot read its files") from None


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
