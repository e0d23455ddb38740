"""Chooses the compression of a late-interaction index so that it fits a budget of bytes."""

import msgspec
import numpy as np

from exsearch.core.errors import UsageError
from exsearch.corpus.store import Corpus
from exsearch.retrieval.encoders.token_encoder import TokenEncoder
from exsearch.retrieval.late.late import LateParameters

_SAMPLED = 256
_BM25_BYTES_A_PASSAGE = 450
"""Bytes per passage of the inverted file for candidates, for passages of 100 words."""


class Compression(msgspec.Struct, frozen=True):
    """Bytes per token, and what they cost in recall."""

    token_bytes: int
    recall_lost: float
    """Points of recall@5 lost compared with uncompressed vectors: the embedded encoder re-ranking BM25's best 50
    passages for 282 questions of HotpotQA, 2WikiMultihopQA and MuSiQue.
    """


LADDER = [Compression(64, 0.7), Compression(48, 1.0), Compression(32, 1.9), Compression(24, 3.6)]
"""From the weakest compression to the strongest."""


def compress_to(corpus: Corpus, budget: int, parameters: LateParameters) -> tuple[Compression, int]:
    """Return the weakest compression whose index of `corpus` fits `budget` bytes, and its expected size in bytes.

    Tokens are counted in a sample of the passages. Raises UsageError if not even the strongest compression fits.
    """
    encoder = TokenEncoder(parameters.encoder)
    rows = np.unique(np.linspace(0, len(corpus) - 1, _SAMPLED).astype(np.int64))
    texts = [f"{passage.title}\n{passage.text}" for passage in corpus.rows(rows.tolist())]
    tokens = sum(map(len, encoder.encode_passages(texts, parameters.max_tokens))) / len(texts)
    dimensions, expected = encoder.info.dimensions, 0
    if dimensions < LADDER[-1].token_bytes:
        raise UsageError(
            f"encoder {encoder.info.id!r} has {dimensions} dimensions; set token_bytes, the bytes per token"
        )
    for step in LADDER:
        if step.token_bytes <= dimensions:
            a_passage = tokens * step.token_bytes + dimensions + _BM25_BYTES_A_PASSAGE
            expected = int(len(corpus) * a_passage)
            if expected <= budget:
                return step, expected
    raise UsageError(
        f"an index of {len(corpus)} passages with {tokens:.0f} tokens each takes at least {as_size(expected)}, the "
        f"budget is {as_size(budget)}; raise it, or use --retriever bm25"
    )


def parse_size(text: str) -> int:
    """Return the number of bytes that a text such as `8GB` or `500 MB` means. Raises ValueError for another text."""
    number = text.strip().upper().removesuffix("B")
    factor = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(number[-1:], 1)
    value = float(number.rstrip("KMGT")) * factor
    if not 0 < value < float("inf"):
        raise ValueError(f"not a size: {text!r}")
    return int(value)


def as_size(count: float) -> str:
    """Return a number of bytes in a readable unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
