"""Retrieval beside its peers: speed, size and recall of `late` and `bm25`.

    python benchmarks/peers/setup.py runs/peers
    python benchmarks/retrieval.py prepare late bm25 --wiki-mini DIR
    python benchmarks/retrieval.py compare late bm25 --wiki-mini DIR
    python benchmarks/retrieval.py quality --wiki-mini DIR [--trained ENCODER]
    python benchmarks/retrieval.py scaling
    python benchmarks/retrieval.py tables

`compare` puts an index of ours beside its peers, `late` and `bm25` each by itself. It gives every system the same token
vectors (retrieval_data.py) and questions, in processes of their own that are pinned to one core and to two. The
systems take turns, round after round, so that a disturbance of the machine meets all of them. Encoding of passages
and queries is not part of any figure. An index is built once, on two cores, which takes hours for the largest set:
`prepare` does only that, and a stopped one continues with what is missing. Searches are measured again every time.
Recall is the share of a question's gold passages among the first k.

Each mode prints its table and writes benchmarks/results/retrieval*.json, `compare` one for each comparison and set;
`tables` puts them into docs/lab/benchmarks.md.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from page import command_line
from peers.runner import environment
from retrieval_data import DIMENSIONS, SEED, load_set, source, write_data, write_vectors
from retrieval_tables import comparison, insert_tables, quality_table, scaling_table

from exsearch.core.atomic import write_text
from exsearch.core.errors import ExSearchError
from exsearch.corpus.store import Corpus
from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.questions.question import Question
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.fusion import Fused
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CUTS = (2, 5, 20)
CORES = (1, 2)


@dataclass(frozen=True)
class System:
    """What is measured: a script of peers/ and a variant of its search."""

    name: str
    script: str
    variant: str = ""
    beside: tuple[str, ...] = ()
    """The systems it is compared with."""


SYSTEMS = {
    "late": [
        System("colbert-ai", "colbert_plaid"),
        System("colbert-ai, wide", "colbert_plaid", "wide"),
        System("tachiom", "tachiom_index"),
        System("tachiom, wide", "tachiom_index", "wide"),
        System("fast-plaid", "fast_plaid_index"),
        System(
            "exsearch late",
            "exsearch_late",
            beside=("colbert-ai", "colbert-ai, wide", "tachiom", "tachiom, wide", "fast-plaid"),
        ),
    ],
    "bm25": [
        System("bm25s", "bm25s_bare"),
        System("bm25s, mapped", "bm25s_bare", "mapped"),
        System("exsearch bm25", "exsearch_bm25", beside=("bm25s", "bm25s, mapped")),
        System("exsearch bm25 with passages", "exsearch_bm25", "passages", ("bm25s", "bm25s, mapped")),
    ],
}
"""Each of our indexes with its peers."""


def main() -> None:
    """Do what the mode says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    for mode in ("prepare", "compare", "quality", "scaling"):
        options = modes.add_parser(mode)
        options.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="folder for indexes and vectors")
        if mode != "scaling":
            options.add_argument("--wiki-mini", type=Path, help="folder with psgs_w100.tsv.gz and the dev questions")
        if mode in ("prepare", "compare"):
            options.add_argument("comparisons", nargs="+", choices=list(SYSTEMS))
            options.add_argument("--peers", type=Path, default=Path("runs/peers"), help="what peers/setup.py made")
            options.add_argument("--sets", nargs="+", default=["wiki-mini", "world-200000"], metavar="SET")
            options.add_argument(
                "--without", nargs="+", default=[], metavar="SYSTEM", help="names of rows to leave out"
            )
            options.add_argument("--rebuild", nargs="+", default=[], metavar="SCRIPT", help="build these indexes again")
        if mode == "compare":
            options.add_argument("--rounds", type=int, default=3)
        elif mode == "quality":
            options.add_argument("--trained", type=Path, help="folder of a trained encoder")
        elif mode == "scaling":
            options.add_argument("--sizes", type=int, nargs="+", default=[20_000, 200_000, 1_000_000])
            options.add_argument("--late-sizes", type=int, nargs="+", default=[20_000, 200_000])
    modes.add_parser("tables")
    chosen = parser.parse_args()
    run = {"prepare": prepare, "compare": compare, "quality": quality, "scaling": scaling, "tables": tables}
    try:
        run[chosen.mode](chosen)
    except ExSearchError as error:
        sys.exit(str(error))


def prepare(options: argparse.Namespace) -> None:
    """Make the vectors and build the indexes."""
    for name in options.sets:
        folder = options.work / name
        for kind in options.comparisons:
            data = prepared(kind, folder, *load_set(name, folder, options.wiki_mini))
            for system in chosen(kind, options):
                build(system.script, data, options)


def prepared(kind: str, folder: Path, corpus: Corpus, questions: list[Question]) -> Path:
    """Write what the systems of a comparison are given; return its folder."""
    data = write_data(folder, corpus, questions)
    if kind == "late":
        write_vectors(folder, corpus, questions)
    return data


def compare(options: argparse.Namespace) -> None:
    """Measure all systems of each comparison on each set."""
    for name in options.sets:
        for kind in options.comparisons:
            result = about() | {"seed": SEED, "dimensions": DIMENSIONS, "rounds": options.rounds}
            figures = compare_on(name, kind, options)
            result["versions"] |= figures.pop("versions")
            result |= {"set": name, **figures}
            finish(f"retrieval-{kind}-{name}.json", result, comparison(result))


def compare_on(name: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the systems of a comparison on one set."""
    folder, systems = options.work / name, chosen(kind, options)
    corpus, questions = load_set(name, folder, options.wiki_mini)
    data = prepared(kind, folder, corpus, questions)
    builds = {script: build(script, data, options) for script in dict.fromkeys(system.script for system in systems)}
    rows, searches = measure(systems, data, options)
    figures = {
        system.name: summary(builds[system.script], searches[system.name], len(corpus))
        | {"recall": recall(rows[system.name], corpus, questions)}
        for system in systems
    }
    for system in systems:
        others = [other for other in system.beside if other in figures]
        figures[system.name]["beside"] = {other: beside(figures[system.name], figures[other]) for other in others}
    for entry in figures.values():
        entry["recall"] = with_intervals(entry["recall"])
    return {
        "passages": len(corpus),
        "questions": len(questions),
        "versions": {package: version for one in builds.values() for package, version in one["versions"].items()},
        "systems": figures,
    }


def chosen(kind: str, options: argparse.Namespace) -> list[System]:
    """Return the systems of a comparison that are asked for."""
    return [system for system in SYSTEMS[kind] if system.name not in options.without]


def build(script: str, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Build an index of `data` on all cores that are measured, unless there is one; return what it took."""
    index = data.parent / "index" / script
    done = index.with_suffix(".json")
    if script in options.rebuild or not done.exists():
        print(f"{data.parent.name}: building {script}", flush=True)
        done.unlink(missing_ok=True)
        shutil.rmtree(index, ignore_errors=True)
        index.parent.mkdir(exist_ok=True)
        start(script, "build", data, index, max(CORES), options.peers, done)
    figures: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    return figures


def measure(
    systems: list[System], data: Path, options: argparse.Namespace
) -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, dict[int, list[dict[str, Any]]]]]:
    """Let the systems search in turns; return each one's rows, and the figures of each round by number of cores."""
    out, found = data.parent / "figures.json", data.parent / "rows.npy"
    rows: dict[str, npt.NDArray[np.int64]] = {}
    figures: dict[str, dict[int, list[dict[str, Any]]]] = {
        system.name: {cores: [] for cores in CORES} for system in systems
    }
    for number in range(options.rounds):
        for cores in CORES:
            for system in systems:
                print(f"{data.parent.name}: round {number + 1}, {cores} cores, {system.name}", flush=True)
                index = data.parent / "index" / system.script
                extra = ["--variant", system.variant, "--k", str(max(CUTS)), "--rows", str(found)]
                start(system.script, "search", data, index, cores, options.peers, out, *extra)
                figures[system.name][cores].append(json.loads(out.read_text(encoding="utf-8")))
                rows.setdefault(system.name, np.load(found))
    return rows, figures


def start(script: str, task: str, data: Path, index: Path, cores: int, peers: Path, out: Path, *extra: str) -> None:
    """Run a system in its environment, on this many cores; end the program if it fails."""
    python, variables = sys.executable, environment(cores)
    if script == "colbert_plaid":
        home = peers.resolve() / "colbert"
        python = str(home / "bin" / "python")
        path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"  # where it looks for ninja
        variables |= {"TORCH_EXTENSIONS_DIR": str(home / "extensions"), "PATH": path}
    elif script == "fast_plaid_index":
        python = str(peers.resolve() / "fast-plaid" / "bin" / "python")
    elif script == "tachiom_index":
        variables["PYTHONPATH"] = str(peers.resolve() / "tachiom")
    command = [python, str(HERE / "peers" / f"{script}.py"), task, str(data), str(index)]
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    log = out.with_suffix(".log")
    with log.open("w") as file:
        done = subprocess.run(
            [*command, "--threads", str(cores), "--out", str(out), *extra],
            env=variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )
    if done.returncode:
        sys.exit(f"{script} {task} ended with {done.returncode}; its last words, of {log}:\n{log.read_text()[-2000:]}")


def summary(built: dict[str, Any], searches: dict[int, list[dict[str, Any]]], passages: int) -> dict[str, Any]:
    """Return the figures of a system on a set, over all rounds."""
    rounds = [one for several in searches.values() for one in several]
    return {
        "build_seconds": built["build_seconds"],
        "build_peak_bytes": built["memory"]["peak"],
        "index_bytes": built["index_bytes"],
        "bytes_per_passage": built["index_bytes"] / passages,
        "open_seconds": float(np.median([one["open_seconds"] for one in rounds])),
        "search_peak_bytes": max(one["memory"]["peak"] for one in rounds),
        "search_anonymous_bytes": max(one["memory"]["anonymous"] for one in rounds),
        "cores": {
            str(cores): {
                "median_ms": float(np.median(np.concatenate([one["milliseconds"] for one in several]))),
                "p95_ms": float(np.percentile(np.concatenate([one["milliseconds"] for one in several]), 95)),
                "round_median_ms": [float(np.median(one["milliseconds"])) for one in several],
                "queries_per_second": [one["queries_per_second"] for one in several],
            }
            for cores, several in searches.items()
        },
    }


def recall(rows: npt.NDArray[np.int64], corpus: Corpus, questions: list[Question]) -> dict[str, dict[str, list[float]]]:
    """Return recall at each cut, question by question, for each source and for all; nothing if no rows were kept."""
    if (rows < 0).all():
        return {}
    gold = corpus.rows_of([id for question in questions for id in question.gold_passages])
    sources = dict.fromkeys(map(source, questions))
    values: dict[str, dict[str, list[float]]] = {name: {str(cut): [] for cut in CUTS} for name in [*sources, "all"]}
    for question, found in zip(questions, rows, strict=True):
        wanted = [gold[id] for id in question.gold_passages]
        for cut in CUTS:
            share = float(np.isin(wanted, found[:cut]).mean())
            for name in (source(question), "all"):
                values[name][str(cut)].append(share)
    return values


def with_intervals(values: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Any]]:
    """Return mean and interval of each list."""
    return {
        name: {cut: msgspec.to_builtins(figure(shares)) for cut, shares in cuts.items()}
        for name, cuts in values.items()
    }


def beside(mine: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Compare a system with another: ratios, and paired differences of recall."""
    alone, batch = {}, {}
    for cores, own in mine["cores"].items():
        its = other["cores"][cores]
        alone[cores] = spread(its["round_median_ms"], own["round_median_ms"])
        batch[cores] = spread(own["queries_per_second"], its["queries_per_second"])
    return {
        "speed_alone": alone,
        "speed_in_batch": batch,
        "index_bytes": mine["index_bytes"] / other["index_bytes"],
        "build_seconds": mine["build_seconds"] / other["build_seconds"],
        "recall": {
            cut: msgspec.to_builtins(paired_difference(other["recall"]["all"][cut], values))
            for cut, values in mine["recall"].get("all", {}).items()
        },
    }


def spread(above: list[float], below: list[float]) -> list[float]:
    """Return the least, the median and the largest ratio of the rounds."""
    ratios = np.array(above) / np.array(below)
    return [float(ratios.min()), float(np.median(ratios)), float(ratios.max())]


def quality(options: argparse.Namespace) -> None:
    """Measure the recall of each kind of index on the questions of wiki-mini."""
    folder = options.work / "wiki-mini"
    corpus, questions = load_set("wiki-mini", folder, options.wiki_mini)
    indexes: dict[str, tuple[str, dict[str, Any]]] = {
        "bm25": ("bm25", {}),
        "dense": ("dense", {}),
        "late": ("late", {}),
    }
    fused = {"bm25 + late": ["bm25", "late"], "bm25 + dense + late": ["bm25", "dense", "late"]}
    if options.trained:
        indexes["late, trained"] = ("late", {"encoder": str(options.trained)})
        fused["bm25 + late, trained"] = ["bm25", "late, trained"]
    retrievers: dict[str, Retriever] = {}
    for name, (kind, parameters) in indexes.items():
        index = folder / "quality" / name.replace(", ", "-")
        retrievers[name] = open_index(build_index(corpus, kind, index, **parameters))
    # what a hybrid index does, without building its members again
    retrievers |= {name: Fused([retrievers[member] for member in members]) for name, members in fused.items()}
    values = {}
    for name, retriever in retrievers.items():
        print(f"searching {name}", flush=True)
        hits = retriever.search([question.text for question in questions], max(CUTS))
        ids = [[hit.passage.id for hit in row] for row in hits]
        rows = corpus.rows_of(sorted({id for row in ids for id in row}))
        found = np.full((len(ids), max(CUTS)), -1, dtype=np.int64)
        for number, row in enumerate(ids):
            found[number, : len(row)] = [rows[id] for id in row]
        values[name] = recall(found, corpus, questions)
    pairs = [(name, "bm25") for name in values if name != "bm25"]
    pairs += [(name, name.removesuffix(", trained")) for name in values if name.endswith(", trained")]
    differences = [
        {
            "name": f"{name} against {other}",
            "recall": {
                cut: msgspec.to_builtins(paired_difference(values[other]["all"][cut], values[name]["all"][cut]))
                for cut in values[name]["all"]
            },
        }
        for name, other in pairs
    ]
    systems = {name: {"recall": with_intervals(sources)} for name, sources in values.items()}
    result = about() | {"passages": len(corpus), "systems": systems, "differences": differences}
    finish("retrieval_quality.json", result, quality_table(result))


def scaling(options: argparse.Namespace) -> None:
    """Build bm25 and late indexes of worlds of growing size."""
    from retrieval_scaling import measure_sizes

    rows = measure_sizes(options.work, {"bm25": options.sizes, "late": options.late_sizes})
    result = about() | {"seed": SEED, "rows": rows}
    finish("retrieval_scaling.json", result, scaling_table(result))


def tables(options: argparse.Namespace) -> None:
    """Put the tables of all results that there are into the documentation."""
    insert_tables(RESULTS)


def about() -> dict[str, Any]:
    """Return what figures need beside them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    packages = ("exsearch", "numpy", "numba", "torch")
    return {
        "command": command_line(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "machine": {"processor": model, "cores": len(os.sched_getaffinity(0))},
    }


def finish(name: str, result: dict[str, Any], table: str) -> None:
    """Write the result and print its table."""
    write_text(RESULTS / name, json.dumps(result, indent=1) + "\n")
    print(table)


if __name__ == "__main__":
    main()
