"""Python processes that this one starts, safe from files of the working folder that shadow standard modules.

`python -m` and multiprocessing put the working folder first on the module path, so that a user's queue.py or types.py
would be executed. PYTHONPATH works as usual.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess


def start_module(module: str, *words: str, **options: Any) -> "subprocess.Popen[bytes]":
    """Start `python -m module` with these arguments; `options` are those of Popen.

    Ctrl-C in a terminal does not reach it; it ends when its parent does.
    """
    import subprocess  # imported late, since every command imports this module

    return subprocess.Popen([sys.executable, "-P", "-m", module, *words], start_new_session=True, **options)


def guard_others() -> None:
    """Do the same for processes that libraries start from now on."""
    os.environ["PYTHONSAFEPATH"] = "1"
