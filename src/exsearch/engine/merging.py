"""Adapters merged into the weights under them, and whether the model is the same afterwards."""

from collections.abc import Callable

from transformers import PreTrainedModel

from exsearch.core.errors import ExSearchError
from exsearch.engine.attention_choice import choose_attention
from exsearch.engine.noise import without_noise
from exsearch.engine.probe import ROUGH_TOLERANCE, TOLERANCE, distance, is_exact, plain_logprobs, probe_tokens

_ROUNDING = 10
"""How much more than two ways to compute one model its rounded, merged weights may differ."""


def merge_checked(adapted: PreTrainedModel, merge: Callable[[], object]) -> None:
    """Let `merge` put a model's adapters into its weights, in place.

    Raises ExSearchError if the log-probs are others than with the adapters beside the weights.
    """
    without_noise(adapted)
    choose_attention(adapted, "eager")  # the trainer's own knows trees alone
    ids = probe_tokens(adapted)
    before = plain_logprobs(adapted, ids)
    merge()
    difference = distance(adapted, plain_logprobs(adapted, ids), before)
    allowed = _ROUNDING * TOLERANCE if is_exact(adapted) else ROUGH_TOLERANCE
    if difference > allowed:
        raise ExSearchError(
            f"merging the adapters changes what the model says: log-probs differ by {difference:.2g} nats, "
            f"{allowed:g} allowed; train without lora_rank"
        )
