"""Forced decoding inside vLLM: a request that may say nothing but the tokens it was given, one after another.

vLLM's own processes load this by the name in FORCING; no other file imports it, since it needs vLLM to be imported.
"""

from collections.abc import Callable

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

Force = Callable[[list[int], torch.Tensor], torch.Tensor]


class Forcing(AdapterLogitsProcessor):  # type: ignore[misc]
    """Leaves of the logits of a request with `extra_args["target"]` the next token of the target alone.

    The log-probs that vLLM returns are those of the logits before that (`raw_logprobs`, its default).
    """

    def is_argmax_invariant(self) -> bool:
        """Return that greedy decoding is changed, too."""
        return False

    def new_req_logits_processor(self, params: SamplingParams) -> Force | None:
        """Return what forces the tokens of a request, if it has any to force."""
        target: list[int] | None = (params.extra_args or {}).get("target")
        if target is None:
            return None

        def force(said: list[int], logits: torch.Tensor) -> torch.Tensor:
            token = target[min(len(said), len(target) - 1)]  # what runs ahead of the end is dropped
            logits.fill_(-torch.inf)
            logits[token] = 0.0
            return logits

        return force
