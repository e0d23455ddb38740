"""Tables of the retrieval benchmarks, in Markdown, from the figures that the runs wrote."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from page import insert_table

WIKIPEDIA = 21_015_324 * 100
"""Words of the usual Wikipedia corpus: 21,015,324 passages of 100 words."""
SOURCES = {"world": "world", "hotpotqa": "HotpotQA", "2wikimultihopqa": "2Wiki", "musique": "MuSiQue", "all": "all"}
MEBI = 2**20


def comparison(result: dict[str, Any]) -> str:
    """Return the tables of one comparison: the figures, and how systems compare with others."""
    systems = result["systems"]
    sizes = f"{result['passages']:,} passages, {result['questions']} questions"
    parts = [f"**{result['set']}**: {sizes}", machine(result), speeds(systems), sizes_and_recall(systems)]
    return "\n\n".join([*parts, differences(systems)])


def speeds(systems: dict[str, Any]) -> str:
    """Return milliseconds and queries per second; median over the rounds, and p95 over all queries."""
    heads = ["system"]
    for cores in next(iter(systems.values()))["cores"]:
        label = f"{cores} core{'s' * (cores != '1')}"
        heads += [f"{label}: median ms", "p95 ms", "queries/s"]
    rows = []
    for name, system in systems.items():
        row = [name]
        for one in system["cores"].values():
            rate = sorted(one["queries_per_second"])[len(one["queries_per_second"]) // 2]
            row += [f"{one['median_ms']:.2f}", f"{one['p95_ms']:.2f}", f"{rate:,.0f}"]
        rows.append(row)
    return table(heads, rows)


def sizes_and_recall(systems: dict[str, Any]) -> str:
    """Return size, memory, time to build, and recall over all questions."""
    heads = [
        "system",
        "bytes/passage",
        "build s",
        "build peak MB",
        "search peak MB",
        "of it not mapped",
        "open s",
    ]
    rows = []
    for name, system in systems.items():
        memory = [system[key] / MEBI for key in ("build_peak_bytes", "search_peak_bytes", "search_anonymous_bytes")]
        row = [name, f"{system['bytes_per_passage']:,.0f}", f"{system['build_seconds']:,.1f}"]
        row += [f"{value:,.0f}" for value in memory] + [f"{system['open_seconds']:.2f}"]
        rows.append(row + [span(cut) for cut in system["recall"].get("all", {}).values()])
    return table([*heads, "recall@2", "@5", "@20"], rows)


def differences(systems: dict[str, Any]) -> str:
    """Return how systems compare with others."""
    heads = [
        "",
        "alone, 1 core",
        "2 cores",
        "in a batch, 1 core",
        "2 cores",
        "index size",
        "build time",
    ]
    rows = []
    for name, system in systems.items():
        for other, ratio in system["beside"].items():
            speeds = [*ratio["speed_alone"].values(), *ratio["speed_in_batch"].values()]
            row = [f"{name} / {other}", *(f"{middle:.2f}x ({low:.2f}-{high:.2f})" for low, middle, high in speeds)]
            row += [
                f"{ratio['index_bytes']:.2f}x",
                f"{ratio['build_seconds']:.3f}x",
            ]
            rows.append(row + [span(cut, "+") for cut in ratio["recall"].values()])
    text = "Ratios of speed (median, minimum and maximum over the rounds), size and time; paired differences of recall:"
    return f"{text}\n\n{table([*heads, 'recall@2', '@5', '@20'], rows)}" if rows else ""


def quality_table(result: dict[str, Any]) -> str:
    """Return recall@2 / @5 / @20 of each kind of index on each set of questions, and differences."""
    systems = result["systems"]
    sources = list(next(iter(systems.values()))["recall"])
    heads = ["recall@2 / @5 / @20", *(SOURCES[source] for source in sources)]
    rows = [
        [name, *("<br>".join(span(cut) for cut in system["recall"][source].values()) for source in sources)]
        for name, system in systems.items()
    ]
    differences = [[one["name"], *(span(cut, "+") for cut in one["recall"].values())] for one in result["differences"]]
    counts = ", ".join(
        f"{SOURCES[name]} {cuts['2']['n']}" for name, cuts in next(iter(systems.values()))["recall"].items()
    )
    return "\n\n".join(
        [
            machine(result),
            f"{result['passages']:,} passages; questions: {counts}.",
            table(heads, rows),
            "Paired differences over all questions:",
            table(["", "recall@2", "@5", "@20"], differences),
        ]
    )


def scaling_table(result: dict[str, Any]) -> str:
    """Return the figures by size, and what they come to for Wikipedia if they grow in proportion."""
    heads = ["index", "passages", "words", "MB on disk", "build s", "build peak MB", "open s", "ms per query"]
    rows = [
        [
            row["kind"],
            f"{row['passages']:,}",
            f"{row['words']:,}",
            f"{row['index_bytes'] / MEBI:,.0f}",
            f"{row['build_seconds']:,.0f}",
            f"{row['build_peak_bytes'] / MEBI:,.0f}",
            f"{row['open_seconds']:.2f}",
            f"{row['median_ms']:.2f}",
            f"{row['resident_bytes'] / MEBI:,.0f}",
            f"{row['anonymous_bytes'] / MEBI:,.0f}",
        ]
        for row in result["rows"]
    ]
    largest = {row["kind"]: row for row in sorted(result["rows"], key=lambda row: row["passages"])}
    beyond = []
    for kind, row in largest.items():
        factor = WIKIPEDIA / row["words"]
        disk, hours = row["index_bytes"] * factor / 1e9, row["build_seconds"] * factor / 3600
        beyond.append([kind, f"{row['passages']:,}", f"{disk:,.0f}", f"{hours:,.1f}", memory_at(kind, result["rows"])])
    return "\n\n".join(
        [
            machine(result),
            table([*heads, "resident MB", "of it not mapped"], rows),
            "Extrapolated, not measured: 21,015,324 passages of 100 words, in proportion to the words of the largest "
            "index measured; memory that is not mapped files by a straight line through the two largest.",
            table(
                ["index", "from passages", "GB on disk", "hours to build", "GB of memory, without mapped files"], beyond
            ),
        ]
    )


def memory_at(kind: str, rows: list[dict[str, Any]]) -> str:
    """Extrapolate the memory of a process that searches, in GB."""
    of_kind = sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["words"])
    if len(of_kind) < 2:
        return "-"
    small, large = of_kind[-2:]
    slope = (large["anonymous_bytes"] - small["anonymous_bytes"]) / (large["words"] - small["words"])
    return f"{(large['anonymous_bytes'] + max(slope, 0) * (WIKIPEDIA - large['words'])) / 1e9:.1f}"


def machine(result: dict[str, Any]) -> str:
    """Return where the figures come from."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"`{result['command']}` on {result['machine']['processor']}, {result['machine']['cores']} cores; {versions}."


def span(one: dict[str, Any], sign: str = "") -> str:
    """Format a figure with its interval."""
    return f"{one['mean']:{sign}.3f} [{one['low']:{sign}.3f}, {one['high']:{sign}.3f}]"


def table(heads: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table; missing cells at the end of a row are empty."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])]]
    lines += [row + [""] * (len(heads) - len(row)) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "retrieval-late-wiki-mini": comparison,
    "retrieval-late-world-200000": comparison,
    "retrieval-bm25-wiki-mini": comparison,
    "retrieval-bm25-world-200000": comparison,
    "retrieval_quality": quality_table,
    "retrieval_scaling": scaling_table,
}


def insert_tables(results: Path) -> None:
    """Put the table of each result that there is into docs/lab/benchmarks.md."""
    for name, render in TABLES.items():
        file = results / f"{name}.json"
        if file.exists():
            insert_table(name, render(json.loads(file.read_text(encoding="utf-8"))))
