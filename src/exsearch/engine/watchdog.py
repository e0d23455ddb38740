"""Ends processes that outlive the one that had them started: `kill -9` leaves no time to tell them.

vLLM's processes stay when theirs is killed, even in the middle of its start, and hold the memory that the next start
needs. So another process notes who descends from this one, as long as it is there.
"""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

from exsearch.processes.children import start_module

SECONDS = 0.2
"""Between two looks."""


def watch() -> "subprocess.Popen[bytes]":
    """Start a process that kills all descendants of this one once it is gone, however it ends; kill it to call it off.

    Needs psutil, which vLLM brings.
    """
    return start_module("exsearch.engine.watchdog", str(os.getpid()), stdin=subprocess.PIPE)


def main() -> None:
    """Look until standard input ends, whose other end only the watched process holds; then kill."""
    import psutil

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # who sends them to all processes wants the watched ones to end first
    found: set[psutil.Process] = set()  # equal only if started at the same time, too: ids are used again
    while not select.select([sys.stdin], [], [], SECONDS)[0]:
        with suppress(psutil.NoSuchProcess):
            found |= set(psutil.Process(int(sys.argv[1])).children(recursive=True))
    for process in found - {psutil.Process()}:
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    main()
