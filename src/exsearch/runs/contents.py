"""Fingerprints of the files and models that a run's settings name: the content of contents.json."""

from pathlib import Path

from exsearch.config import Config
from exsearch.core.fingerprint import fingerprint
from exsearch.engine.load import adapter_fingerprint
from exsearch.engine.models.builtin import model_fingerprint
from exsearch.hardware.devices import pick_dtype
from exsearch.training.learners.zero_settings import zero_fingerprint


def contents_of(config: Config, base: Path) -> dict[str, str]:
    """Return, by setting, fingerprints of the files and models it names, and the precision on this machine.

    `base` is the folder of the model. Index and questions are not included: `RunFolder.claim_inputs` compares them.
    Raises UsageError if a file does not exist.
    """
    return {
        "model.path": model_fingerprint(base),
        "model.adapter": adapter_fingerprint(config.model),
        "model.precision": str(pick_dtype(config.model)).removeprefix("torch."),
        "data.warmup": fingerprint(Path(config.data.warmup).read_bytes()) if config.data.warmup else "",
        "warmup.deepspeed": zero_fingerprint(config.warmup.deepspeed),
        "learn.deepspeed": zero_fingerprint(config.learn.deepspeed),
    }
