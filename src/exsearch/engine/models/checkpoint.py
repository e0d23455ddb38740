"""Loads a checkpoint folder as a model of transformers."""

import inspect
from pathlib import Path
from typing import Any

import msgspec
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils.quantization_config import QuantizationConfigMixin

from exsearch.core.checkpoint import explained, load_whole, require_undamaged
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json


class _Stops(msgspec.Struct, frozen=True):
    """The stop tokens in a checkpoint's settings."""

    eos_token_id: int | list[int] | None = None


def load_config(folder: Path) -> PreTrainedConfig:
    """Read a checkpoint folder's configuration. Raises UsageError if the installed transformers does not know it."""
    with explained(folder):
        try:
            config: PreTrainedConfig = AutoConfig.from_pretrained(folder)
            return config
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(
                f"{folder}: transformers {transformers.__version__} does not know this kind of model: {reason}"
            ) from error


def stop_tokens(folder: Path) -> list[int]:
    """Return the stop tokens in a checkpoint folder's generation settings or, failing that, its configuration."""
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        if file.is_file() and (settings := read_json(file, _Stops)).eos_token_id is not None:
            return settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    return []


def load_model(
    folder: Path, dtype: torch.dtype, quantisation: QuantizationConfigMixin | None = None
) -> PreTrainedModel:
    """Load a causal language model into main memory. Raises UsageError for a folder without a whole, undamaged one."""
    require_undamaged(folder, whole=True)
    model: PreTrainedModel = load_whole(causal_class(folder), folder, dtype=dtype, quantization_config=quantisation)
    return model


def causal_class(folder: Path) -> Any:
    """Return the class that loads a folder as a causal language model. Raises UsageError if there is none."""
    config = load_config(folder)
    architectures = list(config.architectures or [])
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return _named(folder, architectures)
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    takes_text_alone = config.get_text_config(decoder=True) is not config and kind.__name__ not in architectures
    if (
        takes_text_alone and not kind._keys_to_ignore_on_load_unexpected
    ):  # that class does not know the weights for images
        return _named(folder, architectures)
    return AutoModelForCausalLM


def _named(folder: Path, architectures: list[str]) -> type[PreTrainedModel]:
    """Return the class that a configuration names, such as one for text and images that also works without images."""
    for name in architectures:
        kind = getattr(transformers, name, None)
        if isinstance(kind, type) and issubclass(kind, PreTrainedModel):
            parameters = inspect.signature(kind.forward).parameters
            if kind.can_generate() and "input_ids" in parameters and "decoder_input_ids" not in parameters:
                return kind
    raise UsageError(
        f"{folder}: not a causal language model, but {', '.join(architectures) or 'one without a named class'}"
    )
