"""The layers of a decoder, whatever its class calls them."""

import torch
from transformers import PreTrainedModel


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """Return a model's layers, lowest first; an empty list if it has no such list."""
    count = int(model.config.get_text_config(decoder=True).num_hidden_layers)
    lists = (part for part in model.get_decoder().modules() if isinstance(part, torch.nn.ModuleList))
    return next((part for part in lists if len(part) == count), torch.nn.ModuleList())
