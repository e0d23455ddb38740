"""Reads manual pages by mandoc, or by man where that is not installed."""

import shutil
import subprocess

from exsearch.core.errors import UsageError
from exsearch.documents.document import Block, Document, Headings
from exsearch.documents.html import read_html

_SECONDS = 30


def read_man(content: bytes, name: str) -> Document:
    """Return a manual page by its sections. Raises UsageError if neither program is installed, or it fails."""
    if mandoc := shutil.which("mandoc"):
        return read_html(_run([mandoc, "-T", "html", "-O", "fragment"], content, name), name)
    man = shutil.which("man")
    if man is None:
        raise UsageError(f"{name}: reading manual pages needs mandoc, or man")
    formatted = _run([man, "-l", "--no-hyphenation", "--no-justification", "-"], content, name)
    headings, blocks, paragraph = Headings(), list[Block](), list[str]()
    lines = formatted.decode(errors="replace").strip().splitlines()
    for line in [*lines[1:-1], ""]:  # without the lines at the page's head and foot
        is_heading = line[:1].strip() != "" or (line[:3] == "   " and line[3:4].strip() != "")
        if not line.strip() or is_heading:
            if paragraph:
                place = headings.path[-1].replace(" ", "_") if headings.path else ""  # as mandoc has it
                blocks.append(Block(" ".join(" ".join(paragraph).split()), headings.path, place))
                paragraph = []
            if line.strip():
                headings.enter(1 if line[:1].strip() else 2, line.strip())
        else:
            paragraph.append(line)
    return Document("", blocks)


def _run(command: list[str], content: bytes, name: str) -> bytes:
    environment = {"LC_ALL": "C.UTF-8", "MANWIDTH": "20000", "MAN_KEEP_FORMATTING": "", "PATH": "/usr/bin:/bin"}
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=_SECONDS, env=environment, check=True
        )
        return done.stdout
    except subprocess.TimeoutExpired:
        raise UsageError(f"{name}: {command[0]} took over {_SECONDS} seconds") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(
            f"{name}: {command[0]} cannot read it ({reason[-1] if reason else error.returncode})"
        ) from None
