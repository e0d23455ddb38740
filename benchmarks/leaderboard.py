"""The leaderboard: docs/lab/leaderboard.md, made from the records benchmarks/results/results-*.json.

    python benchmarks/leaderboard.py add exsearch-135m --system "ExSearch, 2 iterations" --model SmolLM2-135M \\
        --training "4,000 questions of HotpotQA" --command "exsearch train ..." --seeds 1 2 \\
        --data hotpotqa=runs/seed-1/eval/iter-2 --data hotpotqa=runs/seed-2/eval/iter-2
    python benchmarks/leaderboard.py

The first command writes a record from folders of evaluations, one of each seed for every data set, and then the page;
the second writes only the page. A question's figure is its mean over the seeds, and intervals are over questions.
"""

import argparse
import datetime
import sys
from pathlib import Path

import msgspec
from page import interval, rows

from exsearch.core.atomic import write_text
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.evaluation.bootstrap import figure
from exsearch.evaluation.scores import Figure, QuestionScore, read_scores

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "lab" / "leaderboard.md"
SHARES = {"em": "EM, %", "f1": "F1, %", "acc": "Acc, %", "recall": "gold passages read, %"}
"""Figures of 0 to 1, and what their columns are called."""
NEEDED = ("em", "f1", "acc", "searches")
INTRODUCTION = """# Leaderboard

Means over n questions with 95% bootstrap intervals; with several seeds, of each question's mean over them. Each table
has one data set and one [protocol](../how-to/evaluate-and-compare.md#protocol); do not compare figures across tables.
Written by `python benchmarks/leaderboard.py` from the records `benchmarks/results/results-*.json`.
"""


class Measured(msgspec.Struct, frozen=True):
    """A system on one data set."""

    protocol: str
    """Fingerprint."""
    figures: dict[str, Figure]


class Record(msgspec.Struct, frozen=True):
    """The content of one results-*.json."""

    system: str
    model: str
    training: str
    """What it was trained on, and how."""
    command: str
    seeds: list[int]
    date: datetime.date
    data: dict[str, Measured]


def main() -> None:
    """Add a record if the command asks for one, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_subparsers(dest="verb").add_parser("add", help="write a record from evaluations")
    add.add_argument("name", help="the record becomes results-NAME.json")
    for field in ("system", "model", "training", "command"):
        add.add_argument(f"--{field}", required=True)
    add.add_argument("--seeds", type=int, nargs="+", required=True)
    add.add_argument("--data", action="append", required=True, metavar="SET=FOLDER", help="once a seed")
    options = parser.parse_args()
    try:
        if options.verb == "add":
            write_json(RESULTS / f"results-{options.name}.json", record(options))
        write_text(PAGE, page(read_records(RESULTS)))
    except ExSearchError as error:
        sys.exit(f"error: {error}")


def record(options: argparse.Namespace) -> Record:
    """Return the record of the evaluations that the options name."""
    folders: dict[str, list[Path]] = {}
    for pair in options.data:
        name, found, folder = pair.partition("=")
        if not found:
            raise UsageError(f"--data {pair}: write it as SET=FOLDER")
        folders.setdefault(name, []).append(Path(folder))
    for name, each in folders.items():
        if len(each) != len(options.seeds):
            raise UsageError(f"{name}: {len(each)} evaluations for {len(options.seeds)} seeds")
    return Record(
        system=options.system,
        model=options.model,
        training=options.training,
        command=options.command,
        seeds=options.seeds,
        date=datetime.date.today(),
        data={name: measured(each) for name, each in folders.items()},
    )


def measured(folders: list[Path]) -> Measured:
    """Return the figures over the questions, each the mean over the evaluations; they must be of one protocol."""
    evaluations = [read_scores(folder) for folder in folders]
    protocols = {scores.protocol for scores in evaluations}
    if len(protocols) > 1:
        raise UsageError(f"{', '.join(map(str, folders))}: scored under different protocols, {', '.join(protocols)}")
    by_question: dict[str, list[QuestionScore]] = {}
    for scores in evaluations:
        for score in scores.questions:
            by_question.setdefault(score.question_id, []).append(score)
    names = evaluations[0].figures
    means = {name: [mean for group in by_question.values() for mean in _mean(group, name)] for name in names}
    return Measured(protocols.pop(), {name: figure(values) for name, values in means.items() if values})


def _mean(group: list[QuestionScore], name: str) -> list[float]:
    """Return the mean over the seeds that have the figure, or nothing."""
    values = [value for score in group if (value := getattr(score, name, None)) is not None]
    return [sum(values) / len(values)] if values else []


def read_records(folder: Path) -> list[Record]:
    """Read all records, by name."""
    records = []
    for path in sorted(folder.glob("results-*.json")):
        found = read_json(path, Record)
        for name, each in found.data.items():
            missing = [figure for figure in NEEDED if figure not in each.figures]
            if missing:
                raise UsageError(f"{path}: {name} lacks {', '.join(missing)}")
        records.append(found)
    return records


def page(records: list[Record]) -> str:
    """Return the page: a table for each data set and protocol, then the commands."""
    if not records:
        return f"{INTRODUCTION}\nThere are no records yet.\n"
    tables: dict[tuple[str, str], list[Record]] = {}
    for each in records:
        for name, found in each.data.items():
            tables.setdefault((name, found.protocol), []).append(each)
    parts = [INTRODUCTION]
    for (name, protocol), group in sorted(tables.items()):
        parts.append(f"## {_plain(name)}, protocol `{_plain(protocol)}`\n\n{_table(name, group)}\n")
    by_command: dict[str, list[str]] = {}
    for each in records:
        by_command.setdefault(each.command, []).append(f"{_plain(each.system)} ({_plain(each.model)})")
    commands = [f"{'; '.join(systems)}:\n\n```shell\n{command}\n```\n" for command, systems in by_command.items()]
    return "\n".join([*parts, "## Commands\n", *commands])


def _table(name: str, group: list[Record]) -> str:
    """Return the systems, the best F1 first."""
    head = ["system", "model", "training", *SHARES.values(), "searches", "n", "seeds", "date"]
    group = sorted(group, key=lambda each: -each.data[name].figures["f1"].mean)
    return rows(head, [_row(each, each.data[name].figures) for each in group])


def _row(each: Record, figures: dict[str, Figure]) -> list[str]:
    return [
        *map(_plain, (each.system, each.model, each.training)),
        *(interval(msgspec.to_builtins(figures[name]), 100) if name in figures else "" for name in SHARES),
        interval(msgspec.to_builtins(figures["searches"]), digits=2),
        str(figures["em"].n),
        ", ".join(map(str, each.seeds)),
        each.date.isoformat(),
    ]


def _plain(text: str) -> str:
    """Keep text from being read as part of the table or as markup."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")


if __name__ == "__main__":
    main()
