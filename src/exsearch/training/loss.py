"""The weighted negative log-likelihood of DESIGN.md's M-step.

For a batch of trajectories k with weights w_k it is

    sum_k w_k [ a * nll(z_k | x) + b * nll(y | x, z_k) ] / sum_k w_k

with each nll a sum over the model's own tokens. The denominator is taken over the whole batch of an optimiser
step, so the gradient does not depend on how the batch is cut into micro-batches.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from exsearch.training.example import Example


@dataclass
class LossSums:
    """Sums over examples, to be divided when a step is complete."""

    search_nll: float = 0.0
    """Weighted, over tokens of log p(z | x), in nats."""
    answer_nll: float = 0.0
    search_tokens: float = 0.0
    """Weighted number of tokens."""
    answer_tokens: float = 0.0

    def __add__(self, other: "LossSums") -> "LossSums":
        """Add two sums field by field."""
        return LossSums(
            self.search_nll + other.search_nll,
            self.answer_nll + other.answer_nll,
            self.search_tokens + other.search_tokens,
            self.answer_tokens + other.answer_tokens,
        )

    def per_token(self) -> dict[str, float]:
        """Return the mean loss a token of both terms and of all, in nats."""
        tokens = self.search_tokens + self.answer_tokens
        return {
            "loss": round((self.search_nll + self.answer_nll) / max(tokens, 1e-9), 5),
            "search_loss": round(self.search_nll / max(self.search_tokens, 1e-9), 5),
            "answer_loss": round(self.answer_nll / max(self.answer_tokens, 1e-9), 5),
        }


@dataclass(frozen=True)
class Targets:
    """The loss tokens of a padded batch, flattened; all tensors have shape (loss tokens,)."""

    rows: torch.Tensor
    positions: torch.Tensor
    """Of the hidden state that predicts the token, one before it."""
    tokens: torch.Tensor
    weights: torch.Tensor
    is_answer: torch.Tensor


def pad(examples: list[Example], device: torch.device) -> torch.Tensor:
    """Return right-padded token ids of shape (examples, longest).

    Causal attention never looks right, so no attention mask is needed, and without one it is much faster.
    """
    longest = max(len(example.token_ids) for example in examples)
    ids = [example.token_ids + [0] * (longest - len(example.token_ids)) for example in examples]
    return torch.tensor(ids, device=device)


def find_targets(examples: list[Example], device: torch.device) -> Targets:
    """Collect the tokens that carry loss. A first token cannot: nothing predicts it."""
    found = [
        (row, position - 1, example.token_ids[position], example.weight, position >= example.answer_start)
        for row, example in enumerate(examples)
        for position in range(1, len(example.token_ids))
        if example.loss_mask[position]
    ]
    rows, positions, tokens, weights, is_answer = zip(*found, strict=True)
    return Targets(
        torch.tensor(rows, device=device),
        torch.tensor(positions, device=device),
        torch.tensor(tokens, device=device),
        torch.tensor(weights, device=device, dtype=torch.float32),
        torch.tensor(is_answer, device=device),
    )


def weighted_nll(
    model: PreTrainedModel, examples: list[Example], search_factor: float = 1.0, answer_factor: float = 1.0
) -> tuple[torch.Tensor, LossSums]:
    """Return the numerator of the loss for a micro-batch, differentiable, and the sums for the log.

    The vocabulary projection, the largest matrix of a small model, is applied to loss tokens only.
    """
    device = next(model.parameters()).device
    targets = find_targets(examples, device)
    hidden = model.base_model(input_ids=pad(examples, device), use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[targets.rows, targets.positions]).float()
    nll = targets.weights * torch.nn.functional.cross_entropy(logits, targets.tokens, reduction="none")
    search, answer = nll[~targets.is_answer], nll[targets.is_answer]
    sums = LossSums(
        float(search.detach().sum()),
        float(answer.detach().sum()),
        float(targets.weights[~targets.is_answer].sum()),
        float(targets.weights[targets.is_answer].sum()),
    )
    return search_factor * search.sum() + answer_factor * answer.sum(), sums
