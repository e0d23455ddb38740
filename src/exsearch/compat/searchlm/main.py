"""Runs the procedure that an environment variable names, as in the reference."""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from exsearch.core.errors import UsageError, nearest
from exsearch.core.trouble import as_user_error
from exsearch.processes import stopping
from exsearch.processes.children import guard_others
from exsearch.processes.streams import write_any_text

PROCEDURES = {name: f"exsearch.compat.searchlm.{name}" for name in ("sft", "inference", "entropy", "align")}


def main() -> None:
    """Run the procedure. One line and exit code 2 for a user's mistake, 1 for a failure or an interruption."""
    write_any_text()
    guard_others()
    stopping.listen()
    try:
        _run(sys.argv[1:])
        stopping.leave(0)
    except KeyboardInterrupt:
        _leave(stopping.STOPPED, 1)
    except Exception as error:
        if user_error := as_user_error(error):
            _leave(str(user_error), user_error.exit_code)
        if not stopping.was_asked():
            raise
        _leave(stopping.STOPPED, 1)  # a library may turn an interruption during its import into another error


def _leave(message: str, code: int) -> NoReturn:
    if os.environ.get("RANK", "0") == "0":  # only one of torchrun's processes prints it
        print(f"error: {message}", file=sys.stderr)
    stopping.leave(code)


def _run(words: list[str]) -> None:
    name = os.environ.get("PROCEDURE", "")
    if name not in PROCEDURES:
        choices = ", ".join(PROCEDURES)
        raise UsageError(f"PROCEDURE={name}: set it to one of {choices}{nearest(name, list(PROCEDURES))}")
    procedure = importlib.import_module(PROCEDURES[name])
    parser = argparse.ArgumentParser(prog=f"PROCEDURE={name} src/run.py", allow_abbrev=False)
    procedure.add_options(parser)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise UsageError(f"unknown flag {unknown[0]}{nearest(unknown[0], flags)}")
    procedure.run(options)
