"""Examples as rows of their own, padded on the right: the general way, for models that know no tree.

What follows a token changes nothing for it, so padding behind an example does not either. Where even that is not so in
a model's own arithmetic, a micro-batch holds one example.
"""

from collections import defaultdict
from dataclasses import dataclass

from exsearch.training.example import Example
from exsearch.training.tree import Target


@dataclass(frozen=True)
class Rows:
    """Examples side by side."""

    token_ids: list[list[int]]
    """Of different lengths; `padded` has equal ones."""
    targets: dict[Target, float]
    """With their weights. A target's place counts through all rows, padding included."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(map(len, self.token_ids))

    def padded(self) -> tuple[list[list[int]], list[list[int]]]:
        """Return rows of equal lengths and their mask, 1 for a token and 0 for padding."""
        ids = [row + [row[-1]] * (self.longest - len(row)) for row in self.token_ids]
        mask = [[1] * len(row) + [0] * (self.longest - len(row)) for row in self.token_ids]
        return ids, mask


def line_up(examples: list[Example]) -> Rows:
    """Put examples side by side."""
    rows = Rows([example.token_ids for example in examples], {})
    longest, targets = rows.longest, defaultdict[Target, float](float)
    for number, example in enumerate(examples):
        for position in range(1, len(example.token_ids)):
            if example.loss_mask[position]:
                place, answer = number * longest + position - 1, position >= example.answer_start
                targets[Target(place, example.token_ids[position], answer)] += example.token_weight(position)
    rows.targets.update(targets)
    return rows
