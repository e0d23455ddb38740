"""Exact match, F1 and accuracy of one answer, the best over all gold aliases; recall of gold passages."""

from collections import Counter

from exsearch.data.normalise import normalise


def exact_match(answer: str, aliases: list[str]) -> float:
    """Return 1.0 if the normalised answer equals a normalised alias, else 0.0."""
    return float(any(normalise(answer) == normalise(alias) for alias in aliases))


def f1(answer: str, aliases: list[str]) -> float:
    """Return the best token-overlap F1 with an alias, 0 to 1 (SQuAD 1.1 script)."""
    return max(_f1(normalise(answer).split(), normalise(alias).split()) for alias in aliases)


def _f1(answer: list[str], gold: list[str]) -> float:
    common = sum((Counter(answer) & Counter(gold)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(answer), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def accuracy(answer: str, aliases: list[str]) -> float:
    """Return 1.0 if the answer contains an alias as whole words, both normalised, else 0.0 (the paper's Acc)."""
    padded = f" {normalise(answer)} "
    return float(any(normalise(alias) and f" {normalise(alias)} " in padded for alias in aliases))


def passage_recall(gold: list[str], read: set[str]) -> float | None:
    """Return the share of the gold passages that were read; None if there are none to read."""
    return sum(passage in read for passage in gold) / len(gold) if gold else None
