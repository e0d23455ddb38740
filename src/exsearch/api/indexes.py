"""Builds an index, or opens one by its folder, URL or recording."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.index.build import build_index as build
from exsearch.retrieval.open import open_retriever

Index = Retriever | str | Path
"""An open index, or the location of one: its folder, a server's URL, `replay:FILE`, or your own as `module:name`."""


def build_index(
    corpus: Corpus | str | Path | Iterable[Passage], kind: str, out: str | Path, **parameters: Any
) -> Retriever:
    """Build an index of a corpus, or of passages, as the folder `out`; return it open.

    `kind` is `bm25`, `late`, `dense`, `plaid` or `hybrid`, and `parameters` are those of the kind, such as `k1=0.9`.
    The corpus may be open, or a folder; passages without a corpus are stored as one next to the index, in `out`.corpus,
    and replace the corpus that is there. An index of the same passages and parameters is not built again; any other
    index in `out` is replaced, so do not search it any longer. The same call resumes an interrupted build. Raises
    UsageError if no index can be built, and for a folder with other files.

    >>> index = xs.build_index(world.passages(), "bm25", "work/index")
    >>> [hits] = index.search(["a lighthouse"], k=3)
    >>> [hit.rank for hit in hits]
    [1, 2, 3]
    """
    out = Path(out)
    if isinstance(corpus, (str, Path)):
        corpus = Corpus.open(Path(corpus))
    elif not isinstance(corpus, Corpus):
        corpus = write_corpus(out.with_name(f"{out.name}.corpus"), corpus)
    build(corpus, kind, out, **parameters)
    return open_index(out)


def open_index(location: str | Path, corpus: str | Path | None = None) -> Retriever:
    """Open an index: a folder, the URL of a server, or recorded searches as `replay:FILE`.

    Its `search` takes a list of queries and returns a list of hits for each, best first. `corpus` is the folder of its
    passages, if it has moved. Raises UsageError for an invalid location, and RetrievalError if no server answers.

    >>> index = xs.open_index("work/index")
    >>> [[hit]] = index.search(["a lighthouse"], k=1)
    >>> hit.rank, hit.passage.id.startswith("w1-")
    (1, True)
    """
    return open_retriever(str(location), None if corpus is None else Path(corpus))


def opened(index: Index) -> Retriever:
    """Return an open index as it is, and open any other."""
    return open_index(index) if isinstance(index, (str, Path)) else index
