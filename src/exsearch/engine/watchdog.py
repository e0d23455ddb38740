"""Kills processes that outlive the one that started them: `kill -9` leaves no time to tell them.

vLLM's processes survive when their parent is killed, even during its start, and occupy memory that the next start
needs. So another process records the descendants of this one as long as it exists.
"""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

from exsearch.processes.children import start_module

SECONDS = 0.2
"""Polling interval, in seconds."""


def watch() -> "subprocess.Popen[bytes]":
    """Start a process that kills all descendants of this one once it has ended, in whatever way; kill it to cancel
    that.

    Needs psutil, which vLLM installs.
    """
    return start_module("exsearch.engine.watchdog", str(os.getpid()), stdin=subprocess.PIPE)


def main() -> None:
    """Poll until standard input, whose other end only the watched process holds, is closed; then kill."""
    import psutil

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a signal to all processes should end the watched ones first
    descendants: set[psutil.Process] = set()  # equal only if also started at the same time, since ids are reused
    while not select.select([sys.stdin], [], [], SECONDS)[0]:
        with suppress(psutil.NoSuchProcess):
            descendants |= set(psutil.Process(int(sys.argv[1])).children(recursive=True))
    for process in descendants - {psutil.Process()}:
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    main()
