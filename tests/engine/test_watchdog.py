"""Processes that were started for an engine do not outlive the process that had them started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import subprocess, sys, time
from exsearch.engine.watchdog import watch
watch()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
time.sleep(2)
print(child.pid, flush=True)
time.sleep(600 if sys.argv[1] == "killed" else 0)
"""


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds; one that nobody has waited for counts as ended."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


pytest.importorskip("psutil", reason="vLLM brings psutil")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="asks /proc which processes there are")
@pytest.mark.parametrize("end", ["killed", "finished"])
def test_a_child_ends_with_its_parent_however_that_ends(end: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, end], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if end == "killed":
            os.kill(child, 0)  # it is there as long as its parent is
            parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert gone(child)
