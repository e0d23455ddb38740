"""bm25s by itself, with its numba backend, its own tokenizer, and exsearch's stemmer and stop words.

Variant `mapped` maps the index's files, which is slower and needs less memory; the default reads them.
"""

from pathlib import Path

import bm25s
import numpy as np
import Stemmer
from bm25s.tokenization import Tokenizer
from runner import Data, Query, Search, run


def build(data: Data, index: Path, threads: int) -> None:
    """Tokenize and index with its default constants, and save both parts."""
    words = tokenizer()
    passages = sum(1 for _ in data.texts())
    tokens = words.tokenize(data.texts(), length=passages, return_as="tuple", show_progress=False)
    bm25 = bm25s.BM25(k1=1.5, b=0.75, method="lucene", backend="numba")
    bm25.index(tokens, show_progress=False)
    bm25.save(index)
    words.save_vocab(index)


def open_index(data: Data, index: Path, threads: int, variant: str) -> Search:
    """Load the index and the words it knows; stems are looked up, not computed, for words that it has seen."""
    bm25 = bm25s.BM25.load(index, mmap=variant == "mapped", backend="numba")
    words = tokenizer()
    words.load_vocab(index)

    def search(queries: list[Query], k: int) -> np.ndarray:
        ids = words.tokenize([query.text for query in queries], update_vocab=False, show_progress=False)
        used = threads if len(queries) > 1 else 1  # it shares queries out, never one of them
        return bm25.retrieve(ids, k=k, n_threads=used, show_progress=False, return_as="documents")

    return search


def tokenizer() -> Tokenizer:
    """Return a tokenizer without words."""
    return Tokenizer(stopwords="english", stemmer=Stemmer.Stemmer("english"))


if __name__ == "__main__":
    run(build, open_index, ["bm25s", "numba", "PyStemmer"])
