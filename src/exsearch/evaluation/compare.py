"""Compares two evaluations on the same questions: paired differences, and which questions they come from."""

from collections.abc import Callable

import msgspec

from exsearch.core.errors import UsageError
from exsearch.evaluation.bootstrap import paired_difference
from exsearch.evaluation.folder import Evaluated
from exsearch.evaluation.scores import LIKELIHOODS, Figure, QuestionScore, are_of_one_event
from exsearch.questions.question import Question

MIN_DIFFERING = 6
"""Minimum number of differing questions for a difference to be significant. With five, a sign test is at 2 / 2^5 > 0.05
even if all five favour the same side, and an interval of resampled means is too narrow."""
UNKNOWN = "unknown"
"""Name of the group of questions whose hops or type are unknown."""


class FieldDifference(msgspec.Struct, frozen=True):
    """A condition that differs between two protocols."""

    field: str
    """Key, such as `agent.passages`."""
    a: object
    b: object
    """Value; None if the protocol does not have the field."""


class Difference(msgspec.Struct, frozen=True):
    """One metric of both, over the questions for which both have it."""

    metric: str
    a: float
    b: float
    difference: Figure
    """Mean of b - a, paired."""
    differing: int
    """Number of questions on which the two differ."""

    significant: bool = msgspec.field(name="told_apart")
    """Whether the interval excludes zero and at least MIN_DIFFERING questions differ. `told_apart` in files."""


class Group(msgspec.Struct, frozen=True):
    """The questions of one kind, by the selected metric."""

    name: str
    a: float
    b: float
    difference: Figure
    share: float
    """Contribution of the group to the difference over all questions; the shares of a breakdown sum to it."""
    wins: int
    losses: int
    ties: int


class PairedQuestion(msgspec.Struct, frozen=True):
    """One question, by the selected metric."""

    question_id: str
    a: float
    b: float
    question: str | None
    """Text of the question; None if unknown."""
    gold: list[str]
    answer_a: str | None
    """Answer; None if there is none, or there are no trajectories."""
    answer_b: str | None


class Comparison(msgspec.Struct, frozen=True):
    """The result of `exsearch compare`."""

    a: str
    b: str
    protocols: tuple[str, str]
    protocol_differences: list[FieldDifference]
    n: int
    """Number of questions that both answered."""
    only_a: int
    only_b: int
    """Number of questions skipped because the other did not answer them."""
    differences: list[Difference]
    metric: str
    """Metric by which questions are won, lost and grouped."""
    wins: list[PairedQuestion]
    """Questions where b is higher."""
    losses: list[PairedQuestion]
    ties: list[str]
    """Ids of the questions where both are equal."""
    breakdowns: dict[str, list[Group]]

    def __getitem__(self, metric: str) -> Difference:
        """Return the difference in a metric, such as `em`. Raises KeyError for a metric that the two do not share."""
        return {each.metric: each for each in self.differences}[metric]


Row = tuple[QuestionScore, QuestionScore]
"""A question's scores in a and in b."""


def compare(a: Evaluated, b: Evaluated, metric: str = "em", across_protocols: bool = False) -> Comparison:
    """Compare b with a.

    Raises UsageError for different protocols unless `across_protocols`, for a metric that they do not have, and if they
    have no question in common.
    """
    differing = _protocol_differences(a, b)
    if a.scores.protocol != b.scores.protocol and not across_protocols:
        raise UsageError(_refusal(a, b, differing))
    rows = _rows(a, b)
    skipped = len(a.scores.questions) - len(rows), len(b.scores.questions) - len(rows)
    if any(skipped) and not across_protocols:
        raise UsageError(f"{a.folder} and {b.folder}: equal protocols, but scores of different questions")
    if not rows:
        raise UsageError(f"{a.folder} and {b.folder}: have no question in common")
    metrics = _metrics(rows)
    if not are_of_one_event([a.scores, b.scores]):
        metrics = [each for each in metrics if each not in LIKELIHOODS]
    if metric not in metrics:
        raise UsageError(f"metric {metric!r}: the scores have {', '.join(metrics)}")
    scored_rows = _having(rows, metric)
    pairs = [_pair(row, metric, a, b) for row in scored_rows]
    name_a, name_b = _names(a, b)
    return Comparison(
        a=name_a,
        b=name_b,
        protocols=(a.scores.protocol, b.scores.protocol),
        protocol_differences=differing,
        n=len(rows),
        only_a=skipped[0],
        only_b=skipped[1],
        differences=[_difference(rows, each) for each in metrics],
        metric=metric,
        wins=[pair for pair in pairs if pair.b > pair.a],
        losses=[pair for pair in pairs if pair.b < pair.a],
        ties=[pair.question_id for pair in pairs if pair.b == pair.a],
        breakdowns=_breakdowns(scored_rows, metric, {**b.questions, **a.questions}),
    )


def _names(a: Evaluated, b: Evaluated) -> tuple[str, str]:
    """Return two different names: those in the scores, or otherwise the folders."""
    if a.scores.name != b.scores.name:
        return a.scores.name, b.scores.name
    if a.folder != b.folder:
        return str(a.folder), str(b.folder)
    return f"{a.scores.name} (A)", f"{b.scores.name} (B)"


def _protocol_differences(a: Evaluated, b: Evaluated) -> list[FieldDifference]:
    """Return the fields in which the protocols differ; none if one of them is unknown."""
    if not (a.protocol and b.protocol):
        return []
    fields_a, fields_b = _leaves(a.protocol), _leaves(b.protocol)
    fields = dict.fromkeys([*fields_a, *fields_b])
    return [
        FieldDifference(field, fields_a.get(field), fields_b.get(field))
        for field in fields
        if fields_a.get(field) != fields_b.get(field)
    ]


def _leaves(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for key, value in table.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def _refusal(a: Evaluated, b: Evaluated, differing: list[FieldDifference]) -> str:
    unknown = [str(each.folder) for each in (a, b) if not each.protocol]
    fields = "; ".join(f"{each.field} is {each.a} and {each.b}" for each in differing)
    why = fields or f"the difference is unknown, because protocol.json is missing for {' or '.join(unknown)}"
    return (
        f"{a.folder} and {b.folder} were scored under different protocols, {a.scores.protocol} and "
        f"{b.scores.protocol}: {why}. --across-protocols compares them on the questions that both have"
    )


def _rows(a: Evaluated, b: Evaluated) -> list[Row]:
    """Return the questions that both have, in the order of a; an id with different texts is not one question."""
    other_rows = {row.question_id: row for row in b.scores.questions}
    return [
        (row, other_rows[row.question_id])
        for row in a.scores.questions
        if row.question_id in other_rows and _same(a.questions.get(row.question_id), b.questions.get(row.question_id))
    ]


def _same(a: Question | None, b: Question | None) -> bool:
    return a is None or b is None or a.text == b.text


def _metrics(rows: list[Row]) -> list[str]:
    """Return the numeric fields of a question's score that both have for any question.

    log p(y | x, z) is not among them, since it is missing for questions that one of the two did not answer.
    """
    return [field for field in QuestionScore.__struct_fields__ if field != "answer_logprob" and _having(rows, field)]


def _having(rows: list[Row], field: str) -> list[Row]:
    return [row for row in rows if all(isinstance(getattr(score, field), (int, float)) for score in row)]


def _values(rows: list[Row], metric: str) -> tuple[list[float], list[float]]:
    return [float(getattr(a, metric)) for a, _ in rows], [float(getattr(b, metric)) for _, b in rows]


def _difference(rows: list[Row], metric: str) -> Difference:
    before, after = _values(_having(rows, metric), metric)
    interval = paired_difference(before, after)
    differing = sum(x != y for x, y in zip(before, after, strict=True))
    return Difference(
        metric=metric,
        a=_mean(before),
        b=_mean(after),
        difference=interval,
        differing=differing,
        significant=(interval.low > 0 or interval.high < 0) and differing >= MIN_DIFFERING,
    )


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 5)


def _pair(row: Row, metric: str, a: Evaluated, b: Evaluated) -> PairedQuestion:
    id_ = row[0].question_id
    question = a.questions.get(id_) or b.questions.get(id_)
    return PairedQuestion(
        question_id=id_,
        a=getattr(row[0], metric),
        b=getattr(row[1], metric),
        question=question.text if question else None,
        gold=question.answers if question else [],
        answer_a=a.answers.get(id_),
        answer_b=b.answers.get(id_),
    )


def _breakdowns(rows: list[Row], metric: str, questions: dict[str, Question]) -> dict[str, list[Group]]:
    """Return the groups of each way to group the questions; ways for which nothing is known are omitted."""

    def known(row: Row, field: str) -> str:
        question = questions.get(row[0].question_id)
        return str((question and getattr(question, field)) or UNKNOWN)

    sortings: dict[str, Callable[[Row], str]] = {
        "hops": lambda row: known(row, "hops"),
        "type": lambda row: known(row, "type"),
        "stop reason": lambda row: f"{row[0].stop_reason} -> {row[1].stop_reason}",
        "more searches": lambda row: _signed(row[1].searches - row[0].searches),
    }
    breakdowns = {}
    for kind, name in sortings.items():
        members: dict[str, list[Row]] = {}
        for row in rows:
            members.setdefault(name(row), []).append(row)
        if set(members) != {UNKNOWN}:
            breakdowns[kind] = [_group(each, members[each], metric, len(rows)) for each in sorted(members, key=_order)]
    return breakdowns


def _signed(number: int) -> str:
    return f"{number:+d}" if number else "0"


def _order(name: str) -> tuple[bool, float, str]:
    """Sort numbers by size, and words after them."""
    number = name.removeprefix("+").removeprefix("-").isdecimal()
    return (not number, float(name) if number else 0.0, name)


def _group(name: str, rows: list[Row], metric: str, total: int) -> Group:
    before, after = _values(rows, metric)
    changes = [y - x for x, y in zip(before, after, strict=True)]
    return Group(
        name=name,
        a=_mean(before),
        b=_mean(after),
        difference=paired_difference(before, after),
        share=round(sum(changes) / total, 5),
        wins=sum(change > 0 for change in changes),
        losses=sum(change < 0 for change in changes),
        ties=sum(change == 0 for change in changes),
    )
