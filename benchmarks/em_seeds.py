"""Does EM climb on every seed? Whole runs of the quickstart's recipe, on worlds that nothing was chosen by.

    python benchmarks/em_seeds.py --seeds 11 12 13 14 15 16 17 18

Exact match is greedy, on 300 questions per seed that no run touches. Differences are paired by question and
pooled over the seeds; a step is what one iteration changes, and the model after a refused one is the one before.

Finished runs are kept in OUT/seed-S/run.json and not run again; an interrupted one resumes. Checkpoints are removed
unless --keep is given. Prints a table, writes it into docs/lab/benchmarks.md, and the figures to benchmarks/results/;
the curves become docs/images/em-seeds.svg.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec
from draw_em_curve import draw as picture_of
from em_worlds import RESULTS, ROOT, Model, difference, mean_of, prepare, scored, settings
from page import command_line, insert_table, interval, rows

from exsearch.core.atomic import remove, write_text
from exsearch.core.jsonl import read_json, write_json
from exsearch.em.loop import EMRun
from exsearch.runs.layout import RunLayout

IMAGE = ROOT / "docs" / "images" / "em-seeds.json"


class Done(msgspec.Struct, frozen=True):
    """A finished run."""

    models: list[Model]
    """The warm-up, and one per iteration; of a refused one, that before."""
    iterations: list[str]
    guard: dict[str, list[dict[str, Any]]]
    """What was tried, by iteration."""
    sentences: list[str]
    """The guard's decisions."""
    seconds: dict[str, float]


def main() -> None:
    """Run what is not done yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(11, 19)))
    parser.add_argument("--out", type=Path, default=Path("runs/em-seeds"))
    parser.add_argument("--train", type=int, default=220, help="training questions of a run; others are tested on")
    parser.add_argument("--test", type=int, default=300, help="test questions per seed")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="of all")
    parser.add_argument("--name", default="em-seeds", help="mark in the docs that the table is written to")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints of finished runs")
    options = parser.parse_args()
    runs = {seed: run(seed, options) for seed in options.seeds}
    table = by_seed(runs)
    result = {
        "command": command_line(),
        "cores": len(os.sched_getaffinity(0)),
        "runs": {str(seed): msgspec.to_builtins(done) for seed, done in runs.items()},
        "pooled": pooled(runs),
        "table": table,
    }
    write_text(RESULTS / f"{options.name.replace('-', '_')}.json", json.dumps(result, indent=1) + "\n")
    print(f"\n{table}\n\n{json.dumps(result['pooled'], indent=1)}")
    insert_table(options.name, table)
    draw(runs, IMAGE.with_name(f"{options.name}.json"))


def run(seed: int, options: argparse.Namespace) -> Done:
    """Return what became of a seed; run it if it is not there."""
    folder = options.out / f"seed-{seed}"
    done, root = folder / "run.json", RunLayout(folder / "run")
    if done.exists():
        return read_json(done, Done)
    prepare(seed, folder, options.train, options.test)
    print(f"seed {seed}", file=sys.stderr)
    summary = EMRun(
        settings(folder, seed, options.overrides), root.root, lambda line: print(f"  {line}", file=sys.stderr)
    ).run()
    models, guard = [scored(root, "warmup")], {}
    for iteration in summary.iterations:
        models.append(scored(root, iteration.name) if iteration.name in summary.models else models[-1])
        if root.guard_decision(iteration.name).exists():
            guard[iteration.name] = read_json(root.guard_decision(iteration.name), dict[str, Any])["tries"]
    sentences = [iteration.guard for iteration in summary.iterations]
    made = Done(models, [each.name for each in summary.iterations], guard, sentences, summary.seconds)
    write_json(done, made)
    if not options.keep:
        for checkpoint in (root.checkpoint("warmup"), *root.root.glob("iter-*/checkpoint")):
            remove(checkpoint)
    return made


def em_at(runs: list[Done], position: int) -> list[float]:
    """Return exact match of the models at a position of the curves, of all questions of all runs."""
    return [em for done in runs for em in done.models[position].em]


def pooled(runs: dict[int, Done]) -> dict[str, Any]:
    """Return what the runs come to together."""
    chosen = list(runs.values())
    count = min(len(done.models) for done in chosen)
    steps = [
        statistics.fmean(after.em) - statistics.fmean(before.em)
        for done in chosen
        for before, after in zip(done.models, done.models[1:], strict=False)
    ]
    above = sum(statistics.fmean(done.models[-1].em) > statistics.fmean(done.models[0].em) for done in chosen)
    return {
        "gain": difference(em_at(chosen, 0), em_at(chosen, -1)),
        "steps": [difference(em_at(chosen, at), em_at(chosen, at + 1)) for at in range(count - 1)],
        "worst_step": round(min(steps), 5),
        "seeds_above_their_warmup": f"{above} of {len(chosen)}",
    }


def by_seed(runs: dict[int, Done]) -> str:
    """Return the table: what became of each seed, and of all together."""
    lines = []
    for name, chosen in [*((str(seed), [done]) for seed, done in runs.items()), ("all", list(runs.values()))]:
        count = min(len(done.models) for done in chosen)
        curve = [100 * statistics.fmean(em_at(chosen, at)) for at in range(count)]
        gain = interval(difference(em_at(chosen, 0), em_at(chosen, -1)), 100, sign="+")
        seconds = statistics.fmean(sum(done.seconds.values()) for done in chosen)
        guard = "; ".join(filter(None, chosen[0].sentences)) if len(chosen) == 1 else ""
        n = sum(len(done.models[0].em) for done in chosen)
        lines.append([name, str(n), " / ".join(f"{em:.1f}" for em in curve), gain, f"{seconds:.0f}", guard])
    header = ["seed", "questions", "exact match by iteration, %", "last against warm-up", "seconds", "guard"]
    return rows(header, lines)


def draw(runs: dict[int, Done], image: Path) -> None:
    """Write the seeds' curves with the guard's decisions, and draw them."""
    drawn = []
    for seed, done in runs.items():
        taken = {
            name: next((each["share"] for each in tries if each["taken"]), 0.0) for name, tries in done.guard.items()
        }
        marks = {
            name: {0.5: "half", 0.25: "quarter", 0.0: "refused"}[share] for name, share in taken.items() if share < 1
        }
        em = [mean_of(model.em) for model in done.models]
        drawn.append({"seed": seed, "models": ["warmup", *done.iterations], "em": em, "guard": marks})
    title = f"Exact match after each EM iteration, {len(runs)} seeds"
    count = len(next(iter(runs.values())).models[0].em)
    write_text(image, json.dumps({"title": title, "n": count, "runs": drawn}, indent=1) + "\n")
    write_text(image.with_suffix(".svg"), picture_of(json.loads(image.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
