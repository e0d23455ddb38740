"""The implementation of attention that a model computes with.

Models that also process images or sound have other attention for those parts, which may support only one
implementation; only that of the text part is ever changed.
"""

from transformers import PreTrainedModel

Choice = dict[str, str]
"""By part of the model, under transformers' name of its configuration; "" is the model itself."""


def attention_of(model: PreTrainedModel) -> Choice:
    """Return the attention implementations of a model's parts."""
    config = model.config
    parts = {name: part for name in config.sub_configs if (part := getattr(config, name, None)) is not None}
    return {"": config._attn_implementation} | {name: part._attn_implementation for name, part in parts.items()}


def choose_attention(model: PreTrainedModel, choice: str | Choice) -> None:
    """Set the implementation for a model's text part, or restore those of all parts. Image parts are not changed."""
    if isinstance(choice, str):
        config = model.config
        text = config.get_text_config(decoder=True)
        parts = [name for name in config.sub_configs if getattr(config, name, None) is text]
        choice = dict.fromkeys(["", *parts], choice)
    model.set_attn_implementation(choice)
