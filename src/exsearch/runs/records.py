"""The result of a run: the content of summary.json."""

import msgspec

from exsearch.evaluation.scores import Figure


class ExactMatchDifference(msgspec.Struct, frozen=True):
    """Exact match of model b minus that of model a, paired over the test questions."""

    a: str
    b: str
    difference: Figure


class Iteration(msgspec.Struct, frozen=True):
    """The E-step's figures of one EM iteration, and the validation score of the model it ended with.

    None is an unknown figure: in files of earlier versions, and for an iteration that is not finished.
    """

    name: str
    questions: int | None = None
    skipped: int | None = None
    effective_sample_size: float | None = None
    weight_entropy: float | None = None
    sample_exact_match: float | None = None
    any_exact_match: float | None = None
    examples: int | None = None
    """Trajectories that the M-step learned from."""
    validation_em: float | None = None
    mean_answer_probability: float | None = None
    """Mean p(y | x, z) of the E-step's samples, 0 for those without an answer."""
    malformed: float | None = None
    """Share of the E-step's samples that ended as malformed."""
    sources: dict[str, float] = {}
    """Share of the M-step's total weight that comes from each E-step, by iteration."""
    ratios_worth: dict[str, float] = {}
    """Effective sample size of the importance ratios, by earlier E-step that was reweighted."""
    guard: str = ""
    """The guard's decision on the step, in a sentence; empty without a guard."""


class RunSummary(msgspec.Struct, frozen=True):
    """The content of summary.json."""

    title: str
    models: list[str]
    """In order: baselines, the warm-up, the iterations whose steps were taken."""
    best: str
    seconds: dict[str, float]
    """Seconds per stage, summed over all starts."""
    comparison: ExactMatchDifference | None
    """Comparison of the warm-up with the best model; None if the warm-up is the best."""
    iterations: list[Iteration]
    train_answer_probability: dict[str, Figure] = {}
    """Mean p(y | x, z) of each model on the same training questions, greedy, 0 without an answer."""
