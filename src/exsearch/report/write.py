"""Writes report.html: figures and trajectories of a run or of evaluations, on one self-contained page."""

import base64
import hashlib
import html
import re
from importlib import resources
from pathlib import Path

import msgspec

from exsearch.core.atomic import write_text
from exsearch.evaluation.compare import Comparison
from exsearch.evaluation.folder import Evaluated
from exsearch.evaluation.scores import has_scores
from exsearch.report.bundle import bundle
from exsearch.report.collect import collect
from exsearch.report.evaluations import comparison_page, evaluation_page
from exsearch.report.page import Page
from exsearch.runs.evaluations import read_evaluation
from exsearch.runs.reader import RunReader


def write_report(folder: Path) -> Path:
    """Write report.html into the folder of a run or of an evaluation and return its path.

    Raises UsageError if it is neither.
    """
    page = evaluation_page(read_evaluation(folder)) if has_scores(folder) else collect(RunReader(folder))
    target = folder / "report.html"
    write_text(target, render(page))
    return target


def write_comparison_report(a: Evaluated, b: Evaluated, comparison: Comparison, target: Path) -> None:
    """Write the page of two evaluations side by side."""
    write_text(target, render(comparison_page(a, b, comparison)))


def render(page: Page) -> str:
    """Return the page as HTML.

    Text of the run is embedded as JSON without any `<`, and the script inserts it as text only, so nothing in a
    passage can become markup. The content security policy allows the page's own script and style, by hash, and no
    requests.
    """
    script = bundle("report.js", _asset)
    style = _asset("report.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    slots = {
        "policy": policy,
        "title": html.escape(page.title),
        "style": style,
        "data": embed(page),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: slots[match[1]], _asset("report.html"))


def embed(value: object) -> str:
    """Return `value` as JSON that is safe inside a script element."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (resources.files("exsearch.report") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
