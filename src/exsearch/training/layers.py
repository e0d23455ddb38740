"""The layers of a decoder, whatever its class calls them."""

import torch
from transformers import PreTrainedModel


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """Return a model's layers, lowest first; an empty list if it has no such list."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    body = decoder if (decoder := model.get_decoder()) is not None else model
    lists = [part for part in body.modules() if isinstance(part, torch.nn.ModuleList) and len(part)]
    return next((part for part in lists if len(part) == count), lists[0] if lists else torch.nn.ModuleList())
