"""Ends processes that outlive the one that had them started: `kill -9` leaves no time to tell them.

vLLM's processes stay when theirs is killed, even in the middle of its start, and hold the memory that the next start
needs. So another process notes who descends from this one, as long as it is there.
"""

import os
import select
import subprocess
import sys
from contextlib import suppress

SECONDS = 0.2
"""Between two looks."""


def watch() -> "subprocess.Popen[bytes]":
    """Start a process that kills all descendants of this one once it is gone, however it ends; kill it to call it off.

    Needs psutil, which vLLM brings.
    """
    command = [sys.executable, "-m", "exsearch.engine.watchdog", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C is not for it


def main() -> None:
    """Look until standard input ends, whose other end only the watched process holds; then kill."""
    import psutil

    found: set[psutil.Process] = set()  # equal only if started at the same time, too: ids are used again
    while not select.select([sys.stdin], [], [], SECONDS)[0]:
        with suppress(psutil.NoSuchProcess):
            found |= set(psutil.Process(int(sys.argv[1])).children(recursive=True))
    for process in found - {psutil.Process()}:
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    main()
