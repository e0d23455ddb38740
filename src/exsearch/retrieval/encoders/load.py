"""Chooses how an encoder's checkpoint is loaded."""

from pathlib import Path

from exsearch.core.archives import checkpoint_folder
from exsearch.core.checkpoint import reason_of
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.trouble import machine_trouble, probe
from exsearch.network.http_client import check_hub
from exsearch.processes import compute
from exsearch.retrieval.encoders.base import EMBEDDED, Checkpoint, json_file


@compute.owned
def load_checkpoint(id: str) -> Checkpoint:
    """Load EMBEDDED, a folder or a hub id. Raises UsageError if that is not an encoder.

    A ColBERT-style checkpoint (Stanford's, PyLate's or sentence-transformers' form) brings its own rules; any other
    BERT-like model is used as a plain token encoder.
    """
    if id != EMBEDDED:
        check_hub(id)
    try:
        probe(Path(id))
        if id != EMBEDDED and Path(id).exists():
            id = str(checkpoint_folder(Path(id)))
        if id != EMBEDDED and _is_colbert(id):
            from exsearch.retrieval.encoders.colbert import load_colbert

            return load_colbert(id)
        from exsearch.retrieval.encoders.plain import PlainCheckpoint

        return PlainCheckpoint(id)
    except ExSearchError:
        raise
    except Exception as error:  # libraries check little of what files say
        raise machine_trouble(error) or UsageError(f"encoder {id!r} cannot be loaded: {reason_of(error)}") from error


def _is_colbert(id: str) -> bool:
    # the two files that sentence-transformers itself checks
    settings = json_file(id, "config_sentence_transformers.json")
    if settings.get("model_type") in ("MultiVectorEncoder", "ColBERT"):
        return True
    return "HF_ColBERT" in (json_file(id, "config.json").get("architectures") or [])
