"""Python processes that this one starts. None of them runs a file of the working folder in place of a standard module.

`python -m` and multiprocessing put the working folder first where modules are looked for: a user's queue.py or types.py
would be executed. PYTHONPATH holds as ever.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess


def start_module(module: str, *words: str, **options: Any) -> "subprocess.Popen[bytes]":
    """Start `python -m module` with these words; `options` are those of Popen.

    Ctrl-C in a terminal does not reach it: it ends when its starter does.
    """
    import subprocess  # not before: every command imports this module

    return subprocess.Popen([sys.executable, "-P", "-m", module, *words], start_new_session=True, **options)


def guard_others() -> None:
    """Do the same for processes that libraries start from now on."""
    os.environ["PYTHONSAFEPATH"] = "1"
