"""Late interaction: every token of the query finds its best match among the tokens of a passage (MaxSim).

The score is the sum over the query's tokens of their highest cosine with a token of the passage. All passages
are compared, exactly, which suits corpora of some ten thousand passages.

On disk: `vectors.f16`, the token vectors of all passages one after another, memory-mapped, and `offsets.npy`,
where each passage begins. A passage without a word is stored as one vector of zeros, so that it scores 0.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from exsearch.corpus.store import Corpus
from exsearch.errors import UsageError
from exsearch.progress import progress
from exsearch.retrieval.base import Hit
from exsearch.retrieval.encoder import EMBEDDED, TokenEncoder, best_precision
from exsearch.retrieval.index import EncoderInfo, IndexInfo
from exsearch.retrieval.ranking import Ranked, best_rows, to_hits

_ENCODED_AT_ONCE = 1024
_PASSAGE_TOKENS = 8192
_QUERY_TOKENS = 1024
"""Both bound the similarities held at a time: 8192 x 1024 x 4 bytes."""


class LateParameters(msgspec.Struct, frozen=True):
    """Settings of a late-interaction index."""

    encoder: str = EMBEDDED
    """The embedded encoder, a folder or a hub id."""
    max_tokens: Annotated[int, msgspec.Meta(ge=8, le=_PASSAGE_TOKENS)] = 256
    """Longer passages and queries are cut."""


class Late:
    """Exact MaxSim over all passages."""

    Parameters = LateParameters

    def __init__(self, folder: Path, corpus: Corpus, info: IndexInfo) -> None:
        """Map the vectors in `folder` and load the encoder; queries are encoded in float32."""
        if info.encoder is None:
            raise ValueError("index.json names no encoder")
        parameters = msgspec.convert(info.parameters, LateParameters)
        self.fingerprint = info.fingerprint
        self._corpus = corpus
        self._max_tokens = parameters.max_tokens
        self._offsets: npt.NDArray[np.int64] = np.load(folder / "offsets.npy")
        if len(self._offsets) != len(corpus) + 1:
            raise ValueError("offsets.npy does not fit the corpus")
        path, shape = folder / "vectors.f16", (int(self._offsets[-1]), info.encoder.dimensions)
        if path.stat().st_size != 2 * shape[0] * shape[1]:
            raise ValueError("vectors.f16 is incomplete")
        # a private mapping: never written to, and read faster by torch than by numpy
        mapped = torch.from_file(str(path), shared=False, size=shape[0] * shape[1], dtype=torch.float16)
        self._vectors = mapped.view(shape)
        self._encoder = TokenEncoder(parameters.encoder, "float32")
        if self._encoder.info.hash != info.encoder.hash:
            raise UsageError(
                f"{folder}: its vectors come from an encoder with content hash {info.encoder.hash}, but "
                f"{parameters.encoder!r} is now {self._encoder.info.hash}; build the index again"
            )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @staticmethod
    def build(corpus: Corpus, folder: Path, parameters: LateParameters) -> EncoderInfo:
        """Encode all passages, title and text, in bfloat16 where the hardware computes in it."""
        encoder = TokenEncoder(parameters.encoder, best_precision())
        lengths: list[int] = []
        no_word = np.zeros((1, encoder.info.dimensions), dtype=np.float16)
        with (folder / "vectors.f16").open("wb") as file, progress("late", len(corpus)) as bar:
            for texts in _texts(corpus):
                for vectors in encoder.encode(texts, parameters.max_tokens, bar.advance):
                    stored = vectors.astype(np.float16) if len(vectors) else no_word
                    lengths.append(len(stored))
                    file.write(stored.tobytes())
        np.save(folder / "offsets.npy", np.cumsum([0, *lengths], dtype=np.int64))
        return encoder.info

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits a query, best first; none for a query without a word."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        encoded = self._encoder.encode(queries, self._max_tokens) if queries else []
        ranked: list[Ranked] = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        for group in _groups([len(vectors) for vectors in encoded]):
            scores = self._scores([encoded[number] for number in group])
            for number, row in zip(group, scores, strict=True):
                ranked[number] = best_rows(row, k, -np.inf)
        return to_hits(self._corpus, ranked)

    @torch.inference_mode()
    def _scores(self, queries: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Return [queries, passages]."""
        tokens = torch.from_numpy(np.concatenate(queries)).to(self._device).T
        lengths = [len(query) for query in queries]
        scores = torch.empty(len(queries), len(self._corpus), device=self._device)
        block = torch.empty(_PASSAGE_TOKENS, self._vectors.shape[1], device=self._device)
        for first, last in self._chunks():
            offsets = self._offsets[first : last + 1]
            vectors = block[: offsets[-1] - offsets[0]].copy_(self._vectors[offsets[0] : offsets[-1]])
            passages = torch.split(vectors @ tokens, np.diff(offsets).tolist())
            best = torch.stack([similarities.amax(dim=0) for similarities in passages])
            for number, columns in enumerate(torch.split(best, lengths, dim=1)):
                scores[number, first:last] = columns.sum(dim=1)
        return scores.cpu().numpy()

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of passages with at most _PASSAGE_TOKENS tokens each; one passage has fewer."""
        first = 0
        while first < len(self._corpus):
            end = self._offsets[first] + _PASSAGE_TOKENS
            last = int(np.searchsorted(self._offsets, end, side="right")) - 1
            yield first, last
            first = last


def _texts(corpus: Corpus) -> Iterator[list[str]]:
    for batch in corpus.batches():
        for start in range(0, len(batch), _ENCODED_AT_ONCE):
            part = batch[start : start + _ENCODED_AT_ONCE]
            yield [f"{passage.title}\n{passage.text}" for passage in part]


def _groups(lengths: list[int]) -> Iterator[list[int]]:
    """Group the queries that have tokens, in order, to about _QUERY_TOKENS tokens together."""
    group: list[int] = []
    for number, length in enumerate(lengths):
        if group and sum(lengths[member] for member in group) + length > _QUERY_TOKENS:
            yield group
            group = []
        if length:
            group.append(number)
    if group:
        yield group
