"""Runs the procedure that an environment variable names, as in the reference."""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from exsearch.compat.searchlm.flags import FLAGS, NO_INDEX, READ, REFUSED
from exsearch.core.errors import UsageError, nearest
from exsearch.processes.command import run_command


class _Parser(argparse.ArgumentParser):
    """Raises its errors, which are otherwise printed below the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; --help lists all flags")


def main() -> NoReturn:
    """Run the procedure. One line and exit code 2 for a user's mistake, 1 for a failure or an interruption."""
    # only one of torchrun's processes prints an error
    run_command(lambda: _run(sys.argv[1:]), silent=os.environ.get("RANK", "0") != "0")


def _run(words: list[str]) -> None:
    """Run the procedure with these flags. Mistakes are found before it is imported, which takes many seconds."""
    name = os.environ.get("PROCEDURE", "")
    if name not in FLAGS:
        raise UsageError(f"PROCEDURE={name}: set it to one of {', '.join(FLAGS)}{nearest(name, list(FLAGS))}")
    options = _parsed(name, words)
    if name == "inference" and not (options.index or os.environ.get("API_SEARCH")):  # as in the reference's code
        raise UsageError(NO_INDEX)
    for file in (getattr(options, option, None) for option in READ):
        if file is not None and not file.exists():
            raise UsageError(f"{file}: no such file")
    importlib.import_module(f"exsearch.compat.searchlm.{name}").run(options)


def _parsed(name: str, words: list[str]) -> argparse.Namespace:
    """Return the flags of a procedure. Raises UsageError for one that it does not have."""
    parser = _Parser(prog=f"PROCEDURE={name} src/run.py", allow_abbrev=False)
    FLAGS[name](parser)
    options, unknown = parser.parse_known_args(words)
    for word in unknown:
        if advice := REFUSED.get(word.partition("=")[0]):
            raise UsageError(f"{word.partition('=')[0]}: {advice}")
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise UsageError(f"unknown flag {unknown[0]}{nearest(unknown[0], flags)}")
    return options
