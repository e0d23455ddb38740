"""The tables and pictures of docs/lab/results.md, made from benchmarks/results/wiki_mini-*.json.

Run `python benchmarks/results_page.py` whenever one of them is new.
"""

import json
import statistics
from html import escape
from pathlib import Path
from typing import Any

import msgspec
from page import insert_table, interval, rows

from exsearch.core.atomic import write_text
from exsearch.core.errors import UsageError
from exsearch.evaluation.bootstrap import figure, paired_difference

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs"
_LABELS = {"explored an iteration": "explored per iteration", "samples a question": "samples per question"}
"""Labels of two keys of the results."""
SETS = {"hotpotqa": "HotpotQA", "2wikimultihopqa": "2WikiMultihopQA", "musique": "MuSiQue"}

AT_SCALE = {
    "questions": 20_000,
    "samples": 5,
    "parameters": 7.6e9,
    "flops": 989e12,
    "bandwidth": 3.35e12,
    "utilisation": 0.4,
    "batch": 256,
    "cache_bytes": 57_344,
}
"""A model like Qwen2.5-7B (28 layers, 4 heads of 128 for keys and values) on H100s by their data sheet, in bfloat16."""


def main() -> None:
    """Write the page's tables and one picture a seed."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("wiki_mini-*.json"))]
    detailed = [run for run in runs if "f1_by_question" in run]
    if len({run["protocol"] for run in detailed}) > 1:
        raise UsageError("the runs of wiki_mini have different protocols: their questions cannot be averaged")
    page = DOCS / "lab" / "results.md"
    for name, table in (("scores", scores), ("sets", sets), ("differences", differences), ("iterations", iterations)):
        insert_table(name, "\n\n".join(f"**Seed {run['seed']}**\n\n{table(run)}" for run in runs), page)
    if len(detailed) > 1:
        insert_table("seeds", over_seeds([run["f1_by_question"] for run in detailed]), page)
    insert_table("commands", "\n\n".join(command(run) for run in runs), page)
    insert_table("scale", at_scale(runs[0]), page)
    for run in runs:
        write_text(DOCS / "images" / f"wiki-mini-{run['seed']}.svg", picture(run))


def scores(run: dict[str, Any]) -> str:
    """Return every system's figures over all questions, the best F1 first."""
    head = ["system", "EM", "F1", "Acc", "gold passages read", "searches", "tokens generated", "n"]
    lines = []
    for name, found in _ordered(run):
        figures = found["all"]
        shares = [interval(figures[metric], 100) for metric in ("em", "f1", "acc", "recall")]
        costs = [f"{figures[metric]['mean']:.1f}" for metric in ("searches", "tokens")]
        lines.append([_named(name, run), *shares, *costs, str(figures["f1"]["n"])])
    return f"{rows(head, lines)}\n\n![F1 of all systems](../images/wiki-mini-{run['seed']}.svg)"


def over_seeds(runs: list[dict[str, list[float]]]) -> str:
    """Return the differences of the last iteration from the others, of each question's mean over the seeds."""
    both = [name for name in runs[0] if all(name in run for run in runs)]
    means = {name: [statistics.mean(each) for each in zip(*(run[name] for run in runs), strict=True)] for name in both}
    last = [name for name in both if name.startswith("iter-") and "," not in name][-1]
    lines = []
    for name in both:
        scored, gain = figure(means[name]), paired_difference(means[name], means[last])
        compared = "" if name == last else interval(msgspec.to_builtins(gain), 100, sign="+")
        lines.append([name, interval(msgspec.to_builtins(scored), 100), compared, str(scored.n)])
    return f"{len(runs)} seeds.\n\n" + rows(["system", "F1", f"{last} minus it", "n"], lines)


def sets(run: dict[str, Any]) -> str:
    """Return every system's EM, F1 and Acc on each data set."""
    of_chosen = run["models"][run["chosen"]]
    head = ["EM<br>F1<br>Acc", *(f"{name}, n = {of_chosen[key]['f1']['n']}" for key, name in SETS.items())]
    lines = [
        [
            _named(name, run),
            *("<br>".join(interval(found[key][m], 100) for m in ("em", "f1", "acc")) for key in SETS),
        ]
        for name, found in _ordered(run)
    ]
    return rows(head, lines)


def differences(run: dict[str, Any]) -> str:
    """Return the paired differences."""
    f1, recall = (run["differences"][metric] for metric in ("f1", "recall"))
    lines = [
        [name, interval(f1[name], 100, sign="+"), interval(recall[name], 100, sign="+"), str(f1[name]["n"])]
        for name in f1
    ]
    return rows(["the first minus the second", "F1", "gold passages read", "n"], lines)


def iterations(run: dict[str, Any]) -> str:
    """Return what each E-step saw and each M-step learned from."""
    head = ["", "questions", "skipped", "right samples", "questions with one", "effective samples", "learned from"]
    lines = [
        [
            each["name"],
            str(each["questions"]),
            str(each["skipped"]),
            f"{100 * each['sample_exact_match']:.1f}%",
            f"{100 * each['any_exact_match']:.1f}%",
            f"{each['effective_sample_size']:.2f}",
            str(each["examples"]),
        ]
        for each in run["iterations"]
    ]
    return rows(head, lines)


def command(run: dict[str, Any]) -> str:
    """Return the command of a run, what it learned from, where, and how long its parts took."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    learned = ", ".join(f"{_LABELS.get(name, name)}: {count}" for name, count in run["learned_from"].items())
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in run["seconds"].items())
    return f"```shell\n{run['command']}\n```\n\n{run['machine']}; {versions}. Learned from {learned}. Time: {parts}."


def at_scale(run: dict[str, Any]) -> str:
    """Return what an iteration of a model of 7B parameters on 8 GPUs would take, with trajectories like the run's."""
    each, last = run["trajectory"], run["iterations"][0]
    learned = last["examples"] / (last["questions"] * run["learned_from"]["samples a question"])
    count = AT_SCALE["questions"] * AT_SCALE["samples"]
    forward = 2 * AT_SCALE["parameters"] / (AT_SCALE["flops"] * AT_SCALE["utilisation"])  # GPU seconds per token
    # A decoding step reads the weights and every trajectory's cache, which is half full on average.
    read = 2 * AT_SCALE["parameters"] + AT_SCALE["batch"] * each["tokens"] / 2 * AT_SCALE["cache_bytes"]
    decode = read / (AT_SCALE["bandwidth"] * AT_SCALE["utilisation"]) / AT_SCALE["batch"]
    parts = {
        "explore: tokens generated": (count * each["said"], decode),
        "explore: tokens read": (count * (each["tokens"] - each["said"]), forward),
        "learn: tokens of the trajectories kept": (count * learned * each["tokens"], 3 * forward),
    }
    lines = [
        [name, f"{tokens / 1e6:,.0f} million", f"{tokens * seconds / 3600:,.1f}", f"{tokens * seconds / 480:,.0f}"]
        for name, (tokens, seconds) in parts.items()
    ]
    summary = f"{count:,.0f} trajectories, {count * each['searches']:,.0f} searches"
    summary += f", {count * each['bytes'] / 1e9:,.1f} GB of journal."
    return f"{summary}\n\n{rows(['', 'tokens', 'GPU hours', 'minutes on 8 GPUs'], lines)}"


def picture(run: dict[str, Any]) -> str:
    """Return F1 over all questions as bars with intervals, the best first."""
    systems = _ordered(run)
    left, width, step = 190, 640, 30
    height = 50 + step * len(systems)
    most = max(found["all"]["f1"]["high"] for _, found in systems) * 1.05

    def x(value: float) -> float:
        return left + (width - left - 60) * value / most

    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fbfaf7"/>',
        f'<text x="{left}" y="22">F1 in percent over all questions, 95% intervals (seed {run["seed"]})</text>',
    ]
    for number, (name, found) in enumerate(systems):
        f1, y = found["all"]["f1"], 40 + step * number
        colour = "#2c7fb8" if name.startswith("iter-") and "," not in name else "#b9c4c9"
        svg += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left}" y="{y}" width="{x(f1["mean"]) - left:.1f}" height="18" fill="{colour}"/>',
            f'<path d="M{x(f1["low"]):.1f} {y + 9}H{x(f1["high"]):.1f}" stroke="#333" stroke-width="1.5"/>',
            f'<text x="{x(f1["high"]) + 6:.1f}" y="{y + 14}">{100 * f1["mean"]:.1f}</text>',
        ]
    return "\n".join([*svg, "</svg>", ""])


def _ordered(run: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(run["models"].items(), key=lambda item: -item[1]["all"]["f1"]["mean"])


def _named(name: str, run: dict[str, Any]) -> str:
    return f"**{name}** (chosen)" if name == run["chosen"] else name


if __name__ == "__main__":
    main()
