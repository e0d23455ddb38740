"""Which implementation of attention a model computes with.

A model that also sees images or hears has others for those parts, which may know one alone; only that of its text is
ever exchanged.
"""

from transformers import PreTrainedModel

Choice = dict[str, str]
"""By part of the model, as transformers names its configuration; "" is the model itself."""


def attention_of(model: PreTrainedModel) -> Choice:
    """Return what the parts of a model compute attention with."""
    config = model.config
    parts = {name: part for name in config.sub_configs if (part := getattr(config, name, None)) is not None}
    return {"": config._attn_implementation} | {name: part._attn_implementation for name, part in parts.items()}


def choose_attention(model: PreTrainedModel, choice: str | Choice) -> None:
    """Let a model's text be computed with an implementation, or all its parts as they were. Its images stay alone."""
    if isinstance(choice, str):
        config = model.config
        text = config.get_text_config(decoder=True)
        parts = [name for name in config.sub_configs if getattr(config, name, None) is text]
        choice = dict.fromkeys(["", *parts], choice)
    model.set_attn_implementation(choice)
