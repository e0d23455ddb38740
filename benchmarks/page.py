"""What benchmarks write into the docs: their command, and tables between `<!-- NAME -->` and `<!-- /NAME -->`."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from exsearch.core.atomic import write_text
from exsearch.core.errors import UsageError

PAGE = Path(__file__).parent.parent / "docs" / "lab" / "benchmarks.md"


def command_line() -> str:
    """Return the command that runs, as others can give it: with DIR for a path of this machine."""
    words = [re.sub(r"(^|=)/.*", r"\1DIR", word) for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def insert_table(name: str, table: str, page: Path = PAGE) -> None:
    """Replace what stands between the marks of `name`; raises UsageError if they are not there once."""
    block = f"<!-- {name} -->\n\n{table}\n\n<!-- /{name} -->"
    pattern = rf"<!-- {name} -->.*?<!-- /{name} -->"
    text, count = re.subn(pattern, lambda _: block, page.read_text(encoding="utf-8"), flags=re.DOTALL)
    if count != 1:
        raise UsageError(f"{page}: needs `<!-- {name} -->` and `<!-- /{name} -->` once, has them {count} times")
    write_text(page, text)


def rows(header: list[str], lines: list[list[str]]) -> str:
    """Return a table in Markdown, all columns but the first aligned to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])


def interval(found: dict[str, Any], scale: int = 1, digits: int = 1, sign: str = "") -> str:
    """Return the mean of a figure, as JSON has it, with its interval."""
    mean, low, high = (f"{scale * found[part]:{sign}.{digits}f}" for part in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
