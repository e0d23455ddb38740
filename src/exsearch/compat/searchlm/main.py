"""Runs the procedure that an environment variable names, as in the reference."""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from exsearch.compat.searchlm.flags import NO_INDEX, REFUSED
from exsearch.core.errors import UsageError, nearest
from exsearch.processes.command import run_command

PROCEDURES = {name: f"exsearch.compat.searchlm.{name}" for name in ("sft", "inference", "entropy", "align")}


def main() -> NoReturn:
    """Run the procedure. One line and exit code 2 for a user's mistake, 1 for a failure or an interruption."""
    # only one of torchrun's processes prints an error
    run_command(lambda: _run(sys.argv[1:]), silent=os.environ.get("RANK", "0") != "0")


def _require_index(name: str, words: list[str]) -> None:
    """Refuse to explore without an index before anything is imported, which takes many seconds."""
    flags = {word.partition("=")[0] for word in words}
    if name == "inference" and not flags & {"--index", "-h", "--help"} and not os.environ.get("API_SEARCH"):
        raise UsageError(NO_INDEX)


def _run(words: list[str]) -> None:
    name = os.environ.get("PROCEDURE", "")
    if name not in PROCEDURES:
        choices = ", ".join(PROCEDURES)
        raise UsageError(f"PROCEDURE={name}: set it to one of {choices}{nearest(name, list(PROCEDURES))}")
    _require_index(name, words)
    procedure = importlib.import_module(PROCEDURES[name])
    parser = argparse.ArgumentParser(prog=f"PROCEDURE={name} src/run.py", allow_abbrev=False)
    procedure.add_options(parser)
    options, unknown = parser.parse_known_args(words)
    for word in unknown:
        if advice := REFUSED.get(word.partition("=")[0]):
            raise UsageError(f"{word.partition('=')[0]}: {advice}")
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise UsageError(f"unknown flag {unknown[0]}{nearest(unknown[0], flags)}")
    procedure.run(options)
