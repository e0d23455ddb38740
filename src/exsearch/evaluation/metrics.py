"""Answer metrics: the best value over all gold aliases of an answer, under any normaliser.

docs/reference/metrics.md names the source of each.

Metrics are not computed for a missing answer: see `answer_scores`.
"""

from collections import Counter
from collections.abc import Callable

from exsearch.core.registry import Registry
from exsearch.questions.normalise import Normaliser, normalise

Metric = Callable[[str, list[str], Normaliser], float]
Overlap = tuple[float, float, float]
"""F1, precision and recall of an answer's words."""

_NOTHING: Overlap = (0.0, 0.0, 0.0)
_CLOSED = ("yes", "no", "noanswer")
"""Answers for which HotpotQA gives no partial credit."""


def exact_match(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return 1.0 if the normalised answer equals a normalised alias, else 0.0."""
    return float(any(by(answer) == by(alias) for alias in aliases))


def f1(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return the best F1 of the words in common with an alias, 0 to 1 (SQuAD 1.1, KILT, TriviaQA)."""
    return max(_overlap(by(answer), by(alias))[0] for alias in aliases)


def f1_hotpotqa(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return F1 where yes, no and noanswer must match as a whole (HotpotQA, 2WikiMultihopQA, FlashRAG)."""
    return max(_closed_overlap(by(answer), by(alias))[0] for alias in aliases)


def f1_musique(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return F1 where two texts that are both empty after normalisation agree (MuSiQue, SQuAD 2.0)."""
    return max(_overlap(by(answer), by(alias))[0] if by(alias) or by(answer) else 1.0 for alias in aliases)


def answer_precision(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return the best share of the answer's words that an alias has (HotpotQA, 2WikiMultihopQA).

    As in their scripts, the alias may be another one than that of the best F1 and recall.
    """
    return max(_closed_overlap(by(answer), by(alias))[1] for alias in aliases)


def answer_recall(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return the best share of an alias's words that the answer has; see `answer_precision`."""
    return max(_closed_overlap(by(answer), by(alias))[2] for alias in aliases)


def _closed_overlap(answer: str, gold: str) -> Overlap:
    return _NOTHING if answer != gold and (answer in _CLOSED or gold in _CLOSED) else _overlap(answer, gold)


def _overlap(answer: str, gold: str) -> Overlap:
    words, gold_words = answer.split(), gold.split()
    common = sum((Counter(words) & Counter(gold_words)).values())
    if common == 0:
        return _NOTHING
    precision, recall = common / len(words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall), precision, recall


def accuracy(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return 1.0 if the answer contains an alias as whole words, both normalised, else 0.0 (the paper's Acc)."""
    padded = f" {by(answer)} "
    return float(any(by(alias) and f" {by(alias)} " in padded for alias in aliases))


def cover_em(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return 1.0 if the answer has all words of an alias, in any order and place (R1-Searcher's CEM).

    An alias that is empty after normalisation is covered by an answer that is also empty.
    """
    words = by(answer).split()
    return float(any(set(gold) <= set(words) if gold else not words for gold in (by(a).split() for a in aliases)))


def sub_em(answer: str, aliases: list[str], by: Normaliser = normalise) -> float:
    """Return 1.0 if the answer contains an alias as a string, even within a word (subEM of verl and Search-R1).

    SearchLM's and FlashRAG's code calls this Acc. An alias that is empty after normalisation is in every string; here
    it only counts for an answer that is also empty.
    """
    text = by(answer)
    return float(any(gold in text if gold else not text for gold in map(by, aliases)))


METRICS = Registry[Metric](
    "metric",
    {
        "em": exact_match,
        "f1": f1,
        "f1_hotpotqa": f1_hotpotqa,
        "f1_musique": f1_musique,
        "answer_precision": answer_precision,
        "answer_recall": answer_recall,
        "acc": accuracy,
        "cover_em": cover_em,
        "sub_em": sub_em,
    },
)


def answer_scores(answer: str | None, aliases: list[str], by: Normaliser = normalise) -> dict[str, float]:
    """Return all metrics of one answer; for a missing one (None or only blanks), all are 0.

    So an unanswered question never counts as right, even if a gold answer such as "A" is empty after normalisation.
    """
    if answer is None or not answer.strip():
        return dict.fromkeys(METRICS, 0.0)
    return {name: metric(answer, aliases, by) for name, metric in METRICS.items()}
