"""Forced decoding in vLLM: a request that can only generate the tokens that it was given, one after another.

vLLM's own processes load this by the name in FORCING; no other file imports it, since it imports vLLM.
"""

from collections.abc import Callable

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

Force = Callable[[list[int], torch.Tensor], torch.Tensor]


class Forcing(AdapterLogitsProcessor):  # type: ignore[misc]
    """For a request with `extra_args["target"]`, masks all logits but that of the target's next token.

    vLLM returns the log-probs from before this mask (`raw_logprobs`, its default).
    """

    def is_argmax_invariant(self) -> bool:
        """Return False, since greedy decoding also changes."""
        return False

    def new_req_logits_processor(self, params: SamplingParams) -> Force | None:
        """Return the function that forces a request's tokens, if it has a target."""
        target: list[int] | None = (params.extra_args or {}).get("target")
        if target is None:
            return None

        def force(generated: list[int], logits: torch.Tensor) -> torch.Tensor:
            token = target[min(len(generated), len(target) - 1)]  # tokens beyond the end are dropped
            logits.fill_(-torch.inf)
            logits[token] = 0.0
            return logits

        return force
