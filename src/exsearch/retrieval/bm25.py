"""BM25 over title and text: lower-cased words of two characters or more, no English stop words, stemmed."""

import re
from pathlib import Path
from typing import Annotated

import bm25s
import msgspec
import numpy as np
import numpy.typing as npt
import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from exsearch.corpus.store import Corpus
from exsearch.errors import UsageError
from exsearch.progress import progress
from exsearch.retrieval.base import Hit
from exsearch.retrieval.index import IndexInfo
from exsearch.retrieval.ranking import Ranked, best_rows, compiled, to_hits

_WORD = re.compile(r"\b\w\w+\b")
_STOP_WORDS = frozenset(STOPWORDS_EN)


class Bm25Parameters(msgspec.Struct, frozen=True):
    """The two constants of the BM25 formula (Lucene's variant)."""

    k1: Annotated[float, msgspec.Meta(ge=0)] = 1.5
    b: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.75


class Bm25:
    """Scores are positive; a passage that shares no term with the query is never a hit."""

    Parameters = Bm25Parameters

    def __init__(self, folder: Path, corpus: Corpus, info: IndexInfo) -> None:
        """Map the index in `folder`; only the vocabulary is read into memory."""
        self.fingerprint = info.fingerprint
        self._corpus = corpus
        index = bm25s.BM25.load(folder, mmap=True, show_progress=False)
        self._vocabulary: dict[str, int] = index.vocab_dict
        # plain arrays over the mapped files: numba compiles no variant for numpy's memmap class
        self._data, self._rows, self._starts = (
            np.asarray(index.scores[name]) for name in ("data", "indices", "indptr")
        )
        if not (
            len(self._data) == len(self._rows) == self._starts[-1]
            and len(self._starts) == len(self._vocabulary) + 1
            and index.scores["num_docs"] == len(corpus)
        ):
            raise ValueError("its files do not fit together")

    @staticmethod
    def build(corpus: Corpus, folder: Path, parameters: Bm25Parameters) -> None:
        """Index all passages; memory grows with the number of words in the corpus."""
        vocabulary: dict[str, int] = {}
        stemmer = Stemmer.Stemmer("english")
        terms: list[npt.NDArray[np.int32]] = []
        with progress("bm25", len(corpus)) as bar:
            for batch in corpus.batches():
                for passage in batch:
                    words = _terms(f"{passage.title}\n{passage.text}", stemmer)
                    ids = [vocabulary.setdefault(word, len(vocabulary)) for word in words]
                    terms.append(np.array(ids, dtype=np.int32))
                bar.advance(len(batch))
        if not vocabulary:
            raise UsageError(f"{corpus.folder}: no passage holds a word that BM25 could index")
        index = bm25s.BM25(k1=parameters.k1, b=parameters.b, method="lucene")
        index.index((terms, vocabulary), create_empty_token=False, show_progress=False)
        index.save(folder, show_progress=False)

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits a query, best first; none for a query without a known term."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        stemmer = Stemmer.Stemmer("english")  # not kept: a stemmer must not be shared between threads
        return to_hits(self._corpus, [self._rank(_terms(query, stemmer), k) for query in queries])

    def _rank(self, terms: list[str], k: int) -> Ranked:
        ids = [self._vocabulary[term] for term in terms if term in self._vocabulary]
        scores = np.zeros(len(self._corpus), dtype=np.float32)
        _add_scores(scores, np.array(ids, dtype=np.int64), self._data, self._rows, self._starts)
        return best_rows(scores, k, 0.0)


def _terms(text: str, stemmer: "Stemmer.Stemmer") -> list[str]:
    words = [word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]
    return stemmer.stemWords(words)  # type: ignore[no-any-return]


@compiled
def _add_scores(
    scores: npt.NDArray[np.float32],
    terms: npt.NDArray[np.int64],
    data: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
) -> None:
    """Add the stored score of every query term to every passage that holds it."""
    for term in terms:
        for position in range(starts[term], starts[term + 1]):
            scores[rows[position]] += data[position]
