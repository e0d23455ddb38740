"""What the settings of a run stand for that name a file or a model: the content of contents.json."""

from pathlib import Path

from exsearch.config import Config
from exsearch.core.fingerprint import fingerprint
from exsearch.engine.builtin import model_fingerprint
from exsearch.engine.load import adapter_fingerprint
from exsearch.hardware.devices import pick_dtype
from exsearch.training.zero_settings import zero_fingerprint


def contents_of(config: Config, base: Path) -> dict[str, str]:
    """Return, by their keys, what the settings stand for that name something: fingerprints, and the precision here.

    `base` is the folder of the model. Index and questions are kept whole in a run folder. Raises UsageError if there is
    no such file.
    """
    return {
        "model.path": model_fingerprint(base),
        "model.adapter": adapter_fingerprint(config.model),
        "model.precision": str(pick_dtype(config.model)).removeprefix("torch."),
        "data.warmup": fingerprint(Path(config.data.warmup).read_bytes()) if config.data.warmup else "",
        "warmup.deepspeed": zero_fingerprint(config.warmup.deepspeed),
        "learn.deepspeed": zero_fingerprint(config.learn.deepspeed),
    }
