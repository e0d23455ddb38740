"""Does each iteration climb? One change of the M-step at a time, at equal rollouts, on several seeds.

    python benchmarks/em_stability.py --seeds 21 22 23
    python benchmarks/em_stability.py --seeds 11 12 13 14 15 16 17 18 --variants all --show seeds

The first command compares the changes; the second shows what becomes of seeds that nothing was chosen by.

Each seed is a world, an index, a warm-up and the rollouts of a first E-step, made once; each variant goes on from them
with settings of its own, so that what differs is what it changes. Test questions are those of the world's test split
and training questions that no variant touches, at least 300 of them; exact match is greedy. Differences are paired by
question, and pooled over the seeds; a step is what one iteration changes, and the model after a refused one is the one
before.

The guard's error rates are resampled from the steps of all variants: how often a guard of n of these test questions
would have refused each, beside what exact match did on all of them.

Finished variants are kept in OUT/seed-S/VARIANT.json and not run again; an interrupted variant resumes. Checkpoints of
finished variants are removed unless --keep is given. Prints tables, writes them into docs/lab/benchmarks.md, and the
figures to benchmarks/results/; with `--show seeds` the curves of the last variant become docs/images/em-stability.svg.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec
from draw_em_curve import draw as picture_of
from page import command_line, insert_table, interval, rows

from exsearch.cli.quickstart import PASSAGES, RELATIONS
from exsearch.config import Config, load_config
from exsearch.core.atomic import atomic_path, remove, write_text
from exsearch.core.jsonl import read_json, write_json, write_jsonl
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.em.guard import judge
from exsearch.em.loop import EMRun
from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.evaluation.scores import read_scores
from exsearch.questions.question import Question
from exsearch.retrieval.index.build import build_index
from exsearch.runs.layout import RunLayout
from exsearch.world import World

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "src" / "exsearch" / "recipes" / "quickstart.toml"
RESULTS = Path(__file__).parent / "results"
IMAGE = ROOT / "docs" / "images" / "em-stability.json"
TODAY = {
    "learn.denominator": "batch",
    "learn.keep_float32": "false",
    "learn.max_grad_norm": "1.0",
    "learn.replay": "none",
    "loop.guard": "0",
}
"""The M-step before there were these settings."""
NEVER = "1e9"
"""A norm that no gradient has."""
VARIANTS: dict[str, dict[str, str]] = {
    "today": {},
    "no gradient cut": {"learn.max_grad_norm": NEVER},
    "constant denominator": {"learn.denominator": "expected", "learn.max_grad_norm": NEVER},
    "float32 kept": {"learn.keep_float32": "true"},
    "replay": {"learn.replay": "decay"},
    "replay by ratios": {"learn.replay": "ratios"},
    "guard": {"loop.guard": "80"},
    "mean of two orders": {"learn.orders": "2"},
    "all": {
        "learn.denominator": "expected",
        "learn.keep_float32": "true",
        "learn.replay": "decay",
        "loop.guard": "80",
    },
}
"""What each changes of TODAY. `all` has the threshold of the recipe."""
SIZES = (16, 40, 80, 120, 160)
"""Of the guards whose error rates are resampled."""
FALL = 0.03
"""Exact match; a step that falls or rises by more is called bad or good."""


class Step(msgspec.Struct, frozen=True):
    """A model of a run, by question of the test set."""

    name: str
    em: list[float]
    probability: list[float]
    malformed: float


class Done(msgspec.Struct, frozen=True):
    """A variant on one seed."""

    models: list[Step]
    """The warm-up, and one per iteration; of a refused one, that before."""
    iterations: list[dict[str, Any]]
    seconds: dict[str, float]
    rollouts: dict[str, int]
    """Trajectories of E-steps and of the guard."""
    guard: dict[str, list[dict[str, Any]]]
    """What was tried, by iteration."""
    guard_questions: int


def main() -> None:
    """Run what is not done yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("runs/em-stability"))
    parser.add_argument("--train", type=int, default=220, help="training questions of a run; others are tested on")
    parser.add_argument("--test", type=int, default=300, help="test questions at least")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="of all")
    parser.add_argument("--show", choices=["changes", "seeds"], default="changes")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints of done variants")
    options = parser.parse_args()
    found: dict[str, dict[int, Done]] = {}
    for seed in options.seeds:
        for variant in options.variants:
            found.setdefault(variant, {})[seed] = run(seed, variant, options)
    result = report(found)
    result |= {"command": command_line(), "cores": len(os.sched_getaffinity(0))}
    write_text(RESULTS / f"em_stability_{options.show}.json", json.dumps(result, indent=1) + "\n")
    last = options.variants[-1]
    result["tables"]["seeds"] = by_seed(found[last])
    for name in ("changes", "guard-errors") if options.show == "changes" else ("seeds",):
        print(f"\n{result['tables'][name]}")
        insert_table(f"em-{name}", result["tables"][name])
    if options.show == "seeds":
        draw(last, found[last])


def run(seed: int, variant: str, options: argparse.Namespace) -> Done:
    """Return a variant's figures on a seed; run it if they are not there."""
    folder = options.out / f"seed-{seed}"
    name = variant.replace(" ", "-")
    file, root = folder / f"{name}.json", folder / name
    if file.exists():
        return read_json(file, Done)
    base = prepare(seed, folder, options)
    config = settings(folder, seed, options, VARIANTS[variant])
    if not root.exists():
        share(base, root)
    print(f"seed {seed}: {variant}", file=sys.stderr)
    EMRun(config, root, lambda line: print(f"  {line}", file=sys.stderr)).run()
    done = figures(RunLayout(root), config)
    write_json(file, done)
    if not options.keep:
        for checkpoint in root.glob("iter-*/checkpoint"):
            remove(checkpoint)
    return done


def settings(folder: Path, seed: int, options: argparse.Namespace, changed: dict[str, str]) -> Config:
    """Return the recipe's settings, those of TODAY, those asked for, and what a variant changes."""
    data = {split: folder / f"{split}.jsonl" for split in ("train", "dev", "test")} | {"index": folder / "index"}
    words = [f"data.{key}={path}" for key, path in data.items()]
    words += [f"{key}={value}" for key, value in (TODAY | changed).items()]
    return load_config(RECIPE, [*words, f"seed={seed}", *options.overrides])


def prepare(seed: int, folder: Path, options: argparse.Namespace) -> Path:
    """Return the run folder with what all variants of a seed have in common; make what it lacks."""
    world = World(seed=seed, passages=PASSAGES)
    if not (folder / "index").exists():
        corpus = folder / "corpus"
        if not corpus.exists():
            write_corpus(corpus, world.passages(), total=PASSAGES)
        build_index(Corpus.open(corpus), "bm25", folder / "index")
    train = list(world.questions("train", 1000, hops=[1], relations=RELATIONS))
    learned, beyond = train[: options.train], train[options.train :]
    test = stick(learned, list(world.questions("test", 1000, hops=[1], relations=RELATIONS)), beyond)
    if len(test) < options.test:
        raise SystemExit(f"seed {seed}: {len(test)} test questions; learn from fewer with --train")
    for split, questions in (("train", learned), ("test", test)):
        write_jsonl(folder / f"{split}.jsonl", questions)
    write_jsonl(folder / "dev.jsonl", world.questions("dev", 16, hops=[1], relations=RELATIONS))
    base = folder / "base"
    if not (base / "iter-1" / "weights.jsonl").exists():
        made = EMRun(settings(folder, seed, options, {}), base, lambda line: print(f"  {line}", file=sys.stderr))
        made.baselines()
        made.warm_up()
        made.assess("warmup")
        made.e_step("iter-1", 1, "warmup")
        made.close()
    return base


def stick(learned: list[Question], test: list[Question], beyond: list[Question]) -> list[Question]:
    """Return the questions to measure by: none of whose gold passages is one that is learned about."""
    met = {passage for question in learned for passage in question.gold_passages}
    return [question for question in [*test, *beyond] if not met & set(question.gold_passages)]


def share(base: Path, root: Path) -> None:
    """Begin a run folder with the stages of another; weights are linked, not copied."""
    with atomic_path(root) as temporary:
        for part in ("warmup", "warmup-eval", "train-eval", "eval", "iter-1"):
            shutil.copytree(base / part, temporary / part, copy_function=linked)
        shutil.copy(base / "warmup-trajectories.jsonl", temporary)


def linked(source: str, target: str) -> None:
    """Link a file of weights, which never changes; copy any other."""
    if source.endswith(".safetensors"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def figures(folder: RunLayout, config: Config) -> Done:
    """Return what a finished run came to."""
    summary = read_json(folder.summary, dict[str, Any])
    models = [step(folder, "warmup", "warmup")]
    guard = {}
    for iteration in summary["iterations"]:
        name = iteration["name"]
        models.append(step(folder, name, name if name in summary["models"] else models[-1].name))
        if folder.guard_decision(name).exists():
            guard[name] = read_json(folder.guard_decision(name), dict[str, Any])["tries"]
    journals = {"E-steps": "iter-*/trajectories.jsonl", "guard": "guard/*/trajectories.jsonl"}
    rollouts = {
        kind: sum(path.read_bytes().count(b"\n") for path in folder.root.glob(pattern))
        for kind, pattern in journals.items()
    }
    return Done(models, summary["iterations"], summary["seconds"], rollouts, guard, config.loop.guard)


def step(folder: RunLayout, name: str, model: str) -> Step:
    """Return what an iteration ended with, `model`."""
    questions = read_scores(folder.test_eval(model)).questions
    return Step(
        name=model,
        em=[row.em for row in questions],
        probability=[row.answer_probability or 0.0 for row in questions],
        malformed=statistics.fmean(row.malformed or 0.0 for row in questions),
    )


def report(found: dict[str, dict[int, Done]]) -> dict[str, Any]:
    """Return all figures, and the tables."""
    reference = found.get("today", {})
    lines, changes = [], {}
    for variant, runs in found.items():
        last = {seed: done.models[-1].em for seed, done in runs.items()}
        steps = [
            paired_difference(before.em, after.em)
            for done in runs.values()
            for before, after in zip(done.models, done.models[1:], strict=False)
        ]
        common = [seed for seed in last if seed in reference]
        against = paired_difference(
            [em for seed in common for em in reference[seed].models[-1].em],
            [em for seed in common for em in last[seed]],
        )
        gain = paired_difference(
            [em for done in runs.values() for em in done.models[0].em], [em for each in last.values() for em in each]
        )
        curve = [
            figure([em for done in runs.values() for em in done.models[number].em])
            for number in range(min(len(done.models) for done in runs.values()))
        ]
        seconds = statistics.fmean(sum(own(done.seconds).values()) for done in runs.values())
        worst = min(steps, key=lambda each: each.mean)
        changes[variant] = {
            "curve": [msgspec.to_builtins(each) for each in curve],
            "gain": msgspec.to_builtins(gain),
            "against_today": msgspec.to_builtins(against),
            "steps": [msgspec.to_builtins(each) for each in steps],
            "seconds": round(seconds, 1),
            "by_seed": {str(seed): msgspec.to_builtins(done) for seed, done in runs.items()},
        }
        lines.append(
            [
                variant,
                " / ".join(f"{100 * each.mean:.1f}" for each in curve),
                interval(changes[variant]["gain"], 100, sign="+"),
                interval(changes[variant]["against_today"], 100, sign="+") if common and variant != "today" else "",
                f"{100 * worst.mean:+.1f}",
                f"{statistics.fmean(done.models[-1].malformed for done in runs.values()):.1%}",
                f"{statistics.fmean(done.rollouts['E-steps'] for done in runs.values()):.0f}",
                f"{statistics.fmean(done.rollouts['guard'] for done in runs.values()):.0f}",
                f"{seconds:.0f}",
            ]
        )
    header = ["change", "exact match by iteration, %", "last against warm-up", "last against today's", "worst step"]
    header += ["malformed", "rollouts of E-steps", "of the guard", "seconds of iterations"]
    tables = {"changes": rows(header, lines), "guard-errors": guard_errors(found)}
    return {"changes": changes, "tables": tables, "seeds": sorted({seed for runs in found.values() for seed in runs})}


def own(seconds: dict[str, float]) -> dict[str, float]:
    """Return the seconds of a variant's own stages, without evaluations on test questions."""
    return {stage: value for stage, value in seconds.items() if stage.startswith("iter-") and "/eval" not in stage}


def by_seed(runs: dict[int, Done]) -> str:
    """Return what became of each seed, and of all together."""
    lines = []
    for name, chosen in [*((str(seed), [done]) for seed, done in runs.items()), ("all", list(runs.values()))]:
        count = min(len(done.models) for done in chosen)
        curve = [statistics.fmean(em for done in chosen for em in done.models[at].em) for at in range(count)]
        before, after = ([em for done in chosen for em in done.models[at].em] for at in (0, -1))
        said = [iteration["guard"] for iteration in chosen[0].iterations] if len(chosen) == 1 else []
        gain = interval(msgspec.to_builtins(paired_difference(before, after)), 100, sign="+")
        lines.append([name, " / ".join(f"{100 * em:.1f}" for em in curve), gain, "; ".join(filter(None, said))])
    return rows(["seed", "exact match by iteration, %", "last against warm-up", "guard"], lines)


def guard_errors(found: dict[str, dict[int, Done]], draws: int = 2000) -> str:
    """Return how often guards of each size would refuse the steps that were made, by what these did to exact match."""
    source = random.Random(0)
    kinds: dict[str, list[list[float]]] = {"bad": [], "neither": [], "good": []}
    for runs in found.values():
        for done in runs.values():
            for before, after in zip(done.models, done.models[1:], strict=False):
                if before.name == after.name:
                    continue
                change = statistics.fmean(after.em) - statistics.fmean(before.em)
                kind = "bad" if change < -FALL else "good" if change > FALL else "neither"
                kinds[kind].append([b - a for a, b in zip(before.probability, after.probability, strict=True)])
    rate = [
        done.seconds["warmup/guard"] / done.guard_questions
        for runs in found.values()
        for done in runs.values()
        if done.guard_questions and "warmup/guard" in done.seconds
    ]
    lines = []
    for size in SIZES:
        line = [str(size)]
        for steps in kinds.values():
            tries = [refused(source, each, size) for each in steps for _ in range(draws // len(steps))] if steps else []
            line.append(f"{statistics.fmean(each[0] for each in tries):.0%}" if tries else "")
            line.append(f"{statistics.fmean(each[1] for each in tries):.0f}" if tries else "")
        line.append(f"{size * statistics.fmean(rate):.0f}" if rate else "")
        lines.append(line)
    header = ["questions"]
    header += [f"{kind} steps ({len(steps)}) {what}" for kind, steps in kinds.items() for what in ("refused", "asked")]
    return rows([*header, "seconds per try"], lines)


def refused(source: random.Random, differences: list[float], size: int) -> tuple[bool, int]:
    """Draw a guard of some questions; return whether it refuses the step, and how many it asks."""
    drawn = source.choices(differences, k=size)
    half = (size + 1) // 2
    early = judge(drawn[:half], size)
    return (not judge(drawn, size), size) if early is None else (not early, half)


def draw(variant: str, runs: dict[int, Done]) -> None:
    """Write the seeds' curves with the guard's decisions, and draw them."""
    said = []
    for seed, done in runs.items():
        names = ["warmup", *(iteration["name"] for iteration in done.iterations)]
        em = [msgspec.to_builtins(figure(model.em)) for model in done.models]
        taken = {
            name: next((each["share"] for each in tries if each["taken"]), 0.0) for name, tries in done.guard.items()
        }
        marks = {
            name: {0.5: "half", 0.25: "quarter", 0.0: "refused"}[share] for name, share in taken.items() if share < 1
        }
        said.append({"seed": seed, "models": names, "em": em, "guard": marks})
    count = len(next(iter(runs.values())).models[0].em)
    title = f"Exact match after each EM iteration, {len(runs)} seeds: {variant}"
    write_text(IMAGE, json.dumps({"title": title, "n": count, "runs": said}, indent=1) + "\n")
    write_text(IMAGE.with_suffix(".svg"), picture_of(json.loads(IMAGE.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
