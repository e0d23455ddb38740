"""The M-step's loss: the weighted negative log-likelihood of the trajectories.

For a batch of trajectories k with weights w_k it is

    sum_k w_k [ a * nll(z_k | x) + b * nll(y | x, z_k) ] / C

with each nll a sum over the model's own tokens, or with `normalise = "trajectory"` a mean over them. C is the average
weight of the loss tokens of a full batch over an epoch, a constant: the gradients of an epoch's steps add up to that of
the whole objective, and the loss is in nats per weighted token. With `denominator = "batch"`, C is the weight of the
batch itself, sum_k w_k, or sum_k w_k * tokens_k if `normalise = "token"`: then a trajectory counts for more in a batch
of little weight, and the loss is in nats per weighted trajectory. C is that of the whole batch of an optimiser step, on
all ranks, so the gradient does not depend on how the batch is divided into micro-batches.

With `kl`, c * KL(p || p_start) at each loss token is added, weighted like the token: p_start is the model that training
started from.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from exsearch.config import Normalisation, TrainingConfig
from exsearch.engine.models.attention_choice import choose_attention
from exsearch.training.example import Example
from exsearch.training.packing.attention import TREE, Layout
from exsearch.training.packing.causal import CausalForward
from exsearch.training.packing.rows import Rows
from exsearch.training.packing.tree import Node, Tree

Packing = Literal["tree", "rows", "single"]
"""How a micro-batch is computed: as a tree, as padded rows, or with only one example."""
Packed = Tree | Rows
CHUNK = 1024
"""Number of tokens projected to the vocabulary at a time: 200 MB of logits with 49,152 words."""


@dataclass
class LossSums:
    """Sums over examples, to be divided once a step is complete."""

    search_nll: float = 0.0
    """Weighted sum over the tokens of log p(z | x), in nats."""
    answer_nll: float = 0.0
    search_tokens: float = 0.0
    """Weighted number of tokens."""
    answer_tokens: float = 0.0
    kl: float = 0.0
    """Weighted sum over all loss tokens."""

    def per_token(self) -> dict[str, float]:
        """Return the mean loss per token of both terms and of all, in nats."""
        tokens = self.search_tokens + self.answer_tokens
        return {
            "loss": round((self.search_nll + self.answer_nll) / max(tokens, 1e-9), 5),
            "search_loss": round(self.search_nll / max(self.search_tokens, 1e-9), 5),
            "answer_loss": round(self.answer_nll / max(self.answer_tokens, 1e-9), 5),
            **({"kl": round(self.kl / max(tokens, 1e-9), 5)} if self.kl else {}),
        }


def normalised(batch: list[Example], by: Normalisation) -> list[Example]:
    """Return the examples of an optimiser step, weighted so that their tokens add up as `by` says."""
    if by != "trajectory":
        return batch
    return [replace(example, weight=example.weight / example.loss_tokens()) for example in batch]


def own_denominator(batch: list[Example], by: Normalisation) -> float:
    """Return C of `denominator = "batch"`: the weight of a batch, in trajectories or in tokens."""
    return sum(example.weight * (example.loss_tokens() if by == "token" else 1) for example in batch)


def expected_denominator(examples: list[Example], batch_size: int, by: Normalisation) -> float:
    """Return C of `denominator = "expected"`: the weight of the loss tokens of a full batch, averaged over orders."""
    whole = sum(example.weight * (1 if by == "trajectory" else example.loss_tokens()) for example in examples)
    return whole * min(batch_size, len(examples)) / len(examples)


Reference = Callable[[], AbstractContextManager[PreTrainedModel]]
"""Provides the model that training started from."""


class WeightedLoss(torch.nn.Module):
    """A language model and the loss that it is trained with."""

    def __init__(
        self,
        model: PreTrainedModel,
        config: TrainingConfig,
        reference: Reference | None = None,
        packing: Packing = "tree",
    ) -> None:
        """Take a model; for trees, its attention becomes that of training/packing/attention.py.

        `reference` is for `config.kl`. Raises whatever the model raises if the packing does not work for it.
        """
        super().__init__()
        self.model, self.packing = model, packing
        self._forward = _forward_of(model, packing)
        self._config, self._reference = config, reference
        self._start: CausalForward | None = None
        """Forward pass of the reference."""

    def train(self, mode: bool = True) -> "WeightedLoss":
        """Do not change the model's mode: learners call this, but `without_noise` sets the mode."""
        self.training = mode
        return self

    def forward(self, packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the numerator of the loss for a micro-batch, differentiable, and the fields of LossSums, (5,)."""
        weights = torch.tensor(list(packed.targets.values()), device=self.model.device)
        is_answer = torch.tensor([target.is_answer for target in packed.targets], device=self.model.device)
        nll, kl = (weights * self.losses(packed)).unbind()
        search, answer = (torch.where(in_term, nll, 0.0).sum() for in_term in (~is_answer, is_answer))
        masses = [torch.where(in_term, weights, 0.0).sum() for in_term in (~is_answer, is_answer)]
        sums = torch.stack([search.detach(), answer.detach(), *masses, kl.detach().sum()])
        config = self._config
        return config.search_loss * search + config.answer_loss * answer + config.kl * kl.sum(), sums

    def losses(self, packed: Packed) -> torch.Tensor:
        """Return -log p of each target and the KL divergence there, (2, targets), unweighted.

        The vocabulary projection, the largest matrix of a small model, is applied to loss tokens only.
        """
        places = torch.tensor([target.place for target in packed.targets], device=self.model.device)
        tokens = torch.tensor([target.token for target in packed.targets], device=self.model.device)
        start = self._start_logprobs(packed, places) if self._reference else [None] * len(places.split(CHUNK))
        hidden = self._forward.states(**_inputs(packed, self.model.device)).flatten(0, 1)[places]
        parts = zip(hidden.split(CHUNK), tokens.split(CHUNK), start, strict=True)
        return torch.cat([self._losses(*part) for part in parts], dim=1)

    def _losses(self, hidden: torch.Tensor, tokens: torch.Tensor, start: torch.Tensor | None) -> torch.Tensor:
        """Return -log p of each token and the KL divergence there, (2, tokens).

        The logits of a whole chunk are not kept, but computed again for the gradient.
        """

        def of_chunk(hidden: torch.Tensor) -> torch.Tensor:
            logprobs = self._forward.logits(hidden).float().log_softmax(dim=1)
            nll = -logprobs.gather(1, tokens[:, None])[:, 0]
            if start is None:
                return torch.stack([nll, torch.zeros_like(nll)])
            return torch.stack([nll, (logprobs.exp() * (logprobs - start)).sum(dim=1)])

        if len(tokens) < CHUNK or not torch.is_grad_enabled():
            return of_chunk(hidden)
        losses: torch.Tensor = checkpoint(of_chunk, hidden, use_reentrant=False)
        return losses

    @torch.no_grad()
    def _start_logprobs(self, packed: Packed, places: torch.Tensor) -> list[torch.Tensor | None]:
        """Return log p_start of the whole vocabulary at each position, chunk by chunk."""
        assert self._reference is not None
        with self._reference() as model:
            if self._start is None or self._start.model is not model:
                self._start = _forward_of(model, self.packing)
            hidden = self._start.states(**_inputs(packed, model.device)).flatten(0, 1)[places]
            return [self._start.logits(part).float().log_softmax(dim=1) for part in hidden.split(CHUNK)]


def _forward_of(model: PreTrainedModel, packing: Packing) -> CausalForward:
    if packing != "tree":
        return CausalForward(model)
    choose_attention(model, TREE)
    return CausalForward(model, layout=Layout([Node(0, 2, 0, ())]))


def _inputs(packed: Packed, device: torch.device) -> dict[str, object]:
    """Return the model's inputs for a micro-batch."""
    if isinstance(packed, Tree):
        return {
            "input_ids": torch.tensor([packed.token_ids], device=device),
            "position_ids": torch.tensor([packed.positions], device=device),
            "layout": Layout(packed.nodes),
        }
    if len(packed.token_ids) == 1:
        return {"input_ids": torch.tensor(packed.token_ids, device=device)}
    ids, mask = packed.padded()
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}
