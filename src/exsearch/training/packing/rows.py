"""Examples as separate rows, padded on the right: the general way, for models that cannot compute trees.

Tokens do not depend on later ones, so padding after an example does not change it. If a model's arithmetic does not
guarantee even that, a micro-batch has a single example.
"""

from collections import defaultdict
from dataclasses import dataclass

from exsearch.training.example import Example
from exsearch.training.packing.tree import TargetToken


@dataclass(frozen=True)
class Rows:
    """Examples side by side."""

    token_ids: list[list[int]]
    """Token ids, with different lengths; `padded` makes them equal."""
    targets: dict[TargetToken, float]
    """Targets with their weights; positions count through all rows, including padding."""

    @property
    def longest(self) -> int:
        """Number of tokens of the longest row."""
        return max(map(len, self.token_ids))

    def padded(self) -> tuple[list[list[int]], list[list[int]]]:
        """Return rows of equal lengths and their mask, 1 for a token and 0 for padding."""
        ids = [row + [row[-1]] * (self.longest - len(row)) for row in self.token_ids]
        mask = [[1] * len(row) + [0] * (self.longest - len(row)) for row in self.token_ids]
        return ids, mask


def line_up(examples: list[Example]) -> Rows:
    """Put examples side by side."""
    rows = Rows([example.token_ids for example in examples], {})
    longest, targets = rows.longest, defaultdict[TargetToken, float](float)
    for number, example in enumerate(examples):
        for position in range(1, len(example.token_ids)):
            if example.loss_mask[position]:
                place, answer = number * longest + position - 1, position >= example.answer_start
                targets[TargetToken(place, example.token_ids[position], answer)] += example.token_weight(position)
    rows.targets.update(targets)
    return rows
