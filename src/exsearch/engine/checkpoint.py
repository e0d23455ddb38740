"""A checkpoint folder as a model of transformers."""

import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils.quantization_config import QuantizationConfigMixin

from exsearch.checkpoint import load_whole
from exsearch.errors import UsageError


def load_config(folder: Path) -> PreTrainedConfig:
    """Read a checkpoint folder's configuration. Raises UsageError if the installed transformers does not know it."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder)
        return config
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{folder}: transformers {transformers.__version__} does not know this kind of model: {reason}"
        ) from error


def load_model(
    folder: Path, dtype: torch.dtype, quantisation: QuantizationConfigMixin | None = None
) -> PreTrainedModel:
    """Load a causal language model onto the processor. Raises UsageError for a folder that holds none, or a part."""
    model: PreTrainedModel = load_whole(causal_class(folder), folder, dtype=dtype, quantization_config=quantisation)
    return model


def causal_class(folder: Path) -> Any:
    """Return the class that loads a folder as a causal language model. Raises UsageError if there is none."""
    config = load_config(folder)
    architectures = list(config.architectures or [])
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return _named(folder, architectures)
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    takes_text_alone = config.get_text_config(decoder=True) is not config and kind.__name__ not in architectures
    if takes_text_alone and not kind._keys_to_ignore_on_load_unexpected:  # it would not know the weights for images
        return _named(folder, architectures)
    return AutoModelForCausalLM


def _named(folder: Path, architectures: list[str]) -> type[PreTrainedModel]:
    """Return the class that a configuration names, such as one of text and images that also speaks without images."""
    for name in architectures:
        kind = getattr(transformers, name, None)
        if isinstance(kind, type) and issubclass(kind, PreTrainedModel):
            parameters = inspect.signature(kind.forward).parameters
            if kind.can_generate() and "input_ids" in parameters and "decoder_input_ids" not in parameters:
                return kind
    raise UsageError(f"{folder}: no causal language model, it holds {', '.join(architectures) or 'none that is named'}")
