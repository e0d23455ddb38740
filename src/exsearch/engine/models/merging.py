"""Merges adapters into the weights under them, and checks that the model stays the same."""

from collections.abc import Callable

from transformers import PreTrainedModel

from exsearch.core.errors import ExSearchError
from exsearch.engine.models.attention_choice import choose_attention
from exsearch.engine.models.noise import without_noise
from exsearch.engine.models.probe import ROUGH_TOLERANCE, TOLERANCE, distance, is_exact, plain_logprobs, probe_tokens

_ROUNDING = 10
"""Allowed difference of the merged, rounded weights' log-probs, relative to that between two ways to compute a model.
"""


def merge_checked(adapted: PreTrainedModel, merge: Callable[[], object]) -> None:
    """Call `merge`, which merges a model's adapters into its weights, in place.

    Raises ExSearchError if the log-probs differ from those with separate adapters.
    """
    without_noise(adapted)
    choose_attention(adapted, "eager")  # the trainer's own attention only works on trees
    ids = probe_tokens(adapted)
    before = plain_logprobs(adapted, ids)
    merge()
    difference = distance(adapted, plain_logprobs(adapted, ids), before)
    allowed = _ROUNDING * TOLERANCE if is_exact(adapted) else ROUGH_TOLERANCE
    if difference > allowed:
        raise ExSearchError(
            f"merging the adapters changes the model's output: log-probs differ by {difference:.2g} nats, "
            f"{allowed:g} allowed; train without lora_rank"
        )
