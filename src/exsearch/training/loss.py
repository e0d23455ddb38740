"""The weighted negative log-likelihood of DESIGN.md's M-step.

For a batch of trajectories k with weights w_k it is

    sum_k w_k [ a * nll(z_k | x) + b * nll(y | x, z_k) ] / sum_k w_k

with each nll a sum over the model's own tokens. The weights of a question sum to one, so the denominator counts
questions (`normalise = "question"`, the paper's). With `trajectory` each nll is a mean over its tokens, with `token`
the denominator is sum_k w_k * tokens_k. It is taken over the whole batch of an optimiser step, on all ranks, so the
gradient does not depend on how the batch is cut into micro-batches.

With `kl`, c * KL(p || p_start) at each loss token is added, weighted like the token: p_start is the model that training
started from.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from exsearch.config import Normalisation, TrainingConfig
from exsearch.training.attention import TREE, Layout
from exsearch.training.example import Example
from exsearch.training.tree import Tree

CHUNK = 1024
"""Tokens projected to the vocabulary at a time: 200 MB of logits with 49,152 words."""


@dataclass
class LossSums:
    """Sums over examples, to be divided when a step is complete."""

    search_nll: float = 0.0
    """Weighted, over tokens of log p(z | x), in nats."""
    answer_nll: float = 0.0
    search_tokens: float = 0.0
    """Weighted number of tokens."""
    answer_tokens: float = 0.0
    kl: float = 0.0
    """Weighted, over all loss tokens."""

    def per_token(self) -> dict[str, float]:
        """Return the mean loss a token of both terms and of all, in nats."""
        tokens = self.search_tokens + self.answer_tokens
        return {
            "loss": round((self.search_nll + self.answer_nll) / max(tokens, 1e-9), 5),
            "search_loss": round(self.search_nll / max(self.search_tokens, 1e-9), 5),
            "answer_loss": round(self.answer_nll / max(self.answer_tokens, 1e-9), 5),
            **({"kl": round(self.kl / max(tokens, 1e-9), 5)} if self.kl else {}),
        }


def normalised(batch: list[Example], by: Normalisation) -> tuple[list[Example], float]:
    """Return the examples of an optimiser step with the weights of their tokens, and what to divide the sum by."""
    if by == "token":
        return batch, sum(example.weight * example.loss_tokens() for example in batch)
    mass = sum(example.weight for example in batch)
    if by == "question":
        return batch, mass
    return [replace(example, weight=example.weight / example.loss_tokens()) for example in batch], mass


Reference = Callable[[], AbstractContextManager[PreTrainedModel]]
"""Lends the model that training started from."""


class WeightedLoss(torch.nn.Module):
    """A language model and the loss it learns by."""

    def __init__(self, model: PreTrainedModel, config: TrainingConfig, reference: Reference | None = None) -> None:
        """Take a model; its attention becomes that of training/attention.py. `reference` is for `config.kl`."""
        super().__init__()
        model.set_attn_implementation(TREE)
        self.model = model
        self._config, self._reference = config, reference

    def forward(self, tree: Tree) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the numerator of the loss for a micro-batch, differentiable, and the fields of LossSums, (5,).

        The vocabulary projection, the largest matrix of a small model, is applied to loss tokens only.
        """
        device = next(self.model.parameters()).device
        places = torch.tensor([target.place for target in tree.targets], device=device)
        tokens = torch.tensor([target.token for target in tree.targets], device=device)
        weights = torch.tensor(list(tree.targets.values()), device=device)
        is_answer = torch.tensor([target.is_answer for target in tree.targets], device=device)
        start = self._start_logprobs(tree, places) if self._reference else [None] * len(places.split(CHUNK))
        hidden = _hidden(self.model, tree)[places]
        parts = zip(hidden.split(CHUNK), tokens.split(CHUNK), start, strict=True)
        nll, kl = (weights * torch.cat([self._losses(*part) for part in parts], dim=1)).unbind()
        search, answer = (torch.where(chosen, nll, 0.0).sum() for chosen in (~is_answer, is_answer))
        masses = [torch.where(chosen, weights, 0.0).sum() for chosen in (~is_answer, is_answer)]
        sums = torch.stack([search.detach(), answer.detach(), *masses, kl.detach().sum()])
        config = self._config
        return config.search_loss * search + config.answer_loss * answer + config.kl * kl.sum(), sums

    def _losses(self, hidden: torch.Tensor, tokens: torch.Tensor, start: torch.Tensor | None) -> torch.Tensor:
        """Return -log p of each token and the KL divergence there, (2, tokens).

        Of a whole chunk the logits are made again for the gradient, not kept.
        """

        def of_chunk(hidden: torch.Tensor) -> torch.Tensor:
            logprobs = _logprobs(self.model, hidden)
            nll = -logprobs.gather(1, tokens[:, None])[:, 0]
            if start is None:
                return torch.stack([nll, torch.zeros_like(nll)])
            return torch.stack([nll, (logprobs.exp() * (logprobs - start)).sum(dim=1)])

        if len(tokens) < CHUNK or not torch.is_grad_enabled():
            return of_chunk(hidden)
        found: torch.Tensor = checkpoint(of_chunk, hidden, use_reentrant=False)
        return found

    @torch.no_grad()
    def _start_logprobs(self, tree: Tree, places: torch.Tensor) -> list[torch.Tensor | None]:
        """Return log p_start of the whole vocabulary at each place, chunk by chunk."""
        assert self._reference is not None
        with self._reference() as model:
            return [_logprobs(model, hidden) for hidden in _hidden(model, tree)[places].split(CHUNK)]


def _hidden(model: PreTrainedModel, tree: Tree) -> torch.Tensor:
    """Return the hidden state of each token of a tree."""
    device = next(model.parameters()).device
    states: torch.Tensor = model.base_model(
        input_ids=torch.tensor([tree.token_ids], device=device),
        position_ids=torch.tensor([tree.positions], device=device),
        use_cache=False,
        layout=Layout(tree.nodes),
    ).last_hidden_state
    return states[0]


def _logprobs(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.get_output_embeddings()(hidden).float().log_softmax(dim=1)
    return found
