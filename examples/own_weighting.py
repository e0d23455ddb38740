"""A weighting of your own: how much each attempt at a question counts in the M-step.

    python examples/own_weighting.py runs/quickstart/iter-1/trajectories.jsonl runs/quickstart/questions/train.jsonl
    PYTHONPATH=examples exsearch train RECIPE --set weigh.weighting=own_weighting:above_average

A weighting is a function from the samples of one question and a temperature to one weight per sample. All weightings
work on the same rollouts, so they can be compared before any training: here, by what this one and the paper's keep.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import exsearch as xs

OWN = "own_weighting:above_average"


def above_average(samples: list[xs.Sample], temperature: float) -> list[float]:
    """Weigh each attempt by how far its F1 is above the mean of the question's attempts, as group-relative rewards do.

    A question whose attempts are all equally good teaches nothing: all weights are 0, and it is skipped.
    """
    mean = sum(sample.f1 for sample in samples) / len(samples)
    gains = [max(sample.f1 - mean, 0.0) ** (1 / temperature) for sample in samples]
    return [gain / sum(gains) for gain in gains] if any(gains) else gains


def report(name: str, weights: list[xs.Weighted]) -> None:
    """Print how many questions a weighting keeps, and how much of its weight is on right answers."""
    groups: dict[str, list[xs.Weighted]] = defaultdict(list)
    for record in weights:
        groups[record.question_id].append(record)
    kept = [group for group in groups.values() if any(record.weight > 0 for record in group)]
    right = sum(record.weight * record.exact_match for group in kept for record in group)
    total = sum(record.weight for group in kept for record in group)
    print(f"{name:>30}: keeps {len(kept)} of {len(groups)} questions; {right / max(total, 1e-9):.0%} on right answers")


def main() -> None:
    """Weigh the rollouts of a journal in both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rollouts", type=Path, help="journal of an E-step, such as RUN/iter-1/trajectories.jsonl")
    parser.add_argument("questions", type=Path, help="question file with the gold answers")
    args = parser.parse_args()
    try:
        rollouts, questions = xs.read_trajectories(args.rollouts), xs.read_questions(args.questions)
        for name in ("paper", OWN):
            report(name, xs.weigh(rollouts, questions, xs.WeighConfig(weighting=name)))
    except xs.UsageError as error:  # wrong input: its message says what, where, and what to do
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
