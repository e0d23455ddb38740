"""Finds the layers of a decoder, whatever its class calls them."""

import torch
from transformers import PreTrainedModel


def text_part(model: PreTrainedModel) -> torch.nn.Module:
    """Return the part of a model that computes text: the decoder, if it also sees images, or the model itself."""
    decoder, embeddings = model.get_decoder(), model.get_input_embeddings()
    whole = decoder is None or all(part is not embeddings for part in decoder.modules())
    return model if whole else decoder


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """Return a model's layers, lowest first; an empty list if it has no such list."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [part for part in text_part(model).modules() if isinstance(part, torch.nn.ModuleList) and len(part)]
    return next((part for part in lists if len(part) == count), lists[0] if lists else torch.nn.ModuleList())
