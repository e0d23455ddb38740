"""Compare engine, trainer and adapters with only transformers on every decoder family: docs/explanation/models.md.

    python benchmarks/families.py [FAMILY ...]

Without names, all families of tests/model_families.py, some eight minutes on two cores, and the table in that page is
written anew; with names, the findings are printed. Exit code 1 if anything is wrong.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models are faster on one thread

import sys
import warnings
from collections import Counter
from pathlib import Path

import click
import transformers

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from page import insert_table, rows

from family_checks import Finding, check_adapters, check_engine, check_trainer
from model_families import FAMILIES

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "models.md"
CHECKS = {"engine": check_engine, "trainer": check_trainer, "adapters": check_adapters}


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Check families; see above."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    found: dict[str, dict[str, Finding]] = {}
    for name in names or FAMILIES:
        found[name] = {part: check(FAMILIES[name]) for part, check in CHECKS.items()}
        click.echo(" | ".join(_line(name, found[name])))
    counts = {part: Counter(parts[part].verdict for parts in found.values()) for part in CHECKS}
    for part, count in counts.items():
        click.echo(f"{part}: {dict(count)}")
    if not names:
        insert_table("families", _page(found, counts), PAGE)
    sys.exit(any(count["WRONG"] for count in counts.values()))


def _page(found: dict[str, dict[str, Finding]], counts: dict[str, Counter[str]]) -> str:
    both = sum(all(parts[part].verdict == "right" for part in ("engine", "trainer")) for parts in found.values())
    head = (
        f"transformers {transformers.__version__}, {len(found)} configurations: {both} right in engine and trainer; "
        + "; ".join(
            f"{part} {count['right']} right, {count['refused']} refused, {count['WRONG']} wrong"
            for part, count in counts.items()
        )
        + "."
    )
    lines = [_line(name, parts) for name, parts in found.items()]
    return f"{head}\n\n" + rows(["family", "engine", "trainer", "adapters"], lines).replace("---:", "---")


def _line(name: str, parts: dict[str, Finding]) -> list[str]:
    return [name, *(_cell(parts[part]) for part in CHECKS)]


def _cell(finding: Finding) -> str:
    if finding.verdict == "refused":
        return f"refused: {finding.refusal.split(';')[0]}"
    if finding.path == "merged":
        return "right"
    worst = max(finding.differences.values())
    limit = "" if finding.limit is None else f", up to {finding.limit} tokens"
    own = f"; its own rounding is {finding.rounding:.0e}" if finding.rounding else ""
    return f"{finding.verdict}, {finding.path}{limit} ({worst:.0e}{own})"


if __name__ == "__main__":
    main()
