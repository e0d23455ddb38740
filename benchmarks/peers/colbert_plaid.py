"""colbert-ai's PLAID index, 2 bits per dimension, fed with precomputed vectors instead of its encoder.

Indexing and search are its own code with its defaults (centroids by the size of the corpus, 4 rounds of k-means; for
k = 20 it probes 2 cells per token, threshold 0.45, 1024 candidates). Variant `wide` probes 16 cells, 8192 candidates.
Only the assignment of vectors to centroids is left to faiss, as k-means is already: torch's maximum over 32,768
centroids takes five times as long on two cores.
"""

import os
from pathlib import Path
from typing import Any

import faiss
import torch
from colbert.data import Collection
from colbert.indexing import collection_indexer
from colbert.indexing.codecs.residual import ResidualCodec
from colbert.infra import ColBERTConfig
from colbert.infra.launcher import run_process_without_mp
from colbert.modeling.colbert import ColBERT
from colbert.search.index_storage import IndexScorer
from colbert.searcher import Searcher
from runner import Data, Search, run

WIDE = {"ncells": 16, "centroid_score_threshold": 0.3, "ndocs": 8192}


def build(data: Data, index: Path, threads: int) -> None:
    """Let colbert-ai's indexer work on passages that are row numbers, and hand it their vectors."""
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    ResidualCodec.compress_into_codes = nearest_centroids

    class Stored:
        """Stands for the encoder."""

        def __init__(self, config: ColBERTConfig, checkpoint: None) -> None:
            pass

        def encode_passages(self, rows: list[int]) -> tuple[torch.Tensor, list[int]]:
            """Return the vectors, float32 as its own encoder does on a CPU, and the tokens of each passage."""
            lengths = data.lengths[rows].tolist()
            if rows[-1] - rows[0] + 1 == len(rows):
                return torch.from_numpy(data.vectors(rows[0], rows[-1] + 1)).float(), lengths
            return torch.cat([torch.from_numpy(data.vectors(row, row + 1)) for row in rows]).float(), lengths

    collection_indexer.CollectionEncoder = Stored
    collection_indexer.Checkpoint = lambda *arguments, **named: None
    settings = configuration(data, index)
    index.mkdir(parents=True)
    collection = Collection(data=list(range(len(data.lengths))))
    run_process_without_mp(collection_indexer.encode, settings, collection, [], [], 1)


def nearest_centroids(codec: Any, vectors: torch.Tensor, out_device: Any) -> torch.Tensor:
    """Return the number of the centroid with the largest inner product, as the codec's own method does."""
    flat = faiss.IndexFlatIP(codec.centroids.shape[1])
    flat.add(codec.centroids.float().numpy())
    return torch.from_numpy(flat.search(vectors.float().numpy(), 1)[1][:, 0])


def open_index(data: Data, index: Path, threads: int, variant: str) -> Search:
    """Load the index; the checkpoint is never needed."""
    torch.set_num_threads(threads)
    ColBERT.try_load_torch_extensions(False)
    searcher: Any = Searcher.__new__(Searcher)
    searcher.config = configuration(data, index)
    searcher.ranker = IndexScorer(str(index), use_gpu=False)
    if variant == "wide":
        searcher.configure(**WIDE)

    def search(queries: Any, k: int) -> list[list[int]]:
        return [searcher.dense_search(torch.from_numpy(query.vectors)[None], k)[0] for query in queries]

    return search


def configuration(data: Data, index: Path) -> ColBERTConfig:
    """Return the settings; the maximal lengths are such that nothing is cut."""
    return ColBERTConfig(
        index_path=str(index),
        checkpoint="precomputed",
        dim=data.dimensions,
        nbits=2,
        doc_maxlen=int(data.lengths.max()),
        query_maxlen=512,
        nranks=1,
        rank=0,
        gpus=0,
        root=os.fspath(index.parent),
    )


if __name__ == "__main__":
    run(build, open_index, ["colbert-ai", "torch", "transformers", "faiss-cpu"], batched=False)
