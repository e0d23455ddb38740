"""Training on several ranks of this machine: processes that this one starts, the first of which reports to it.

They are started with the variables that torchrun would set. That would write its own traceback over every end of a run,
and leave its ranks behind when it is killed.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO

import msgspec
import torch.distributed as dist

from exsearch.children import start_module
from exsearch.errors import ExSearchError, UsageError
from exsearch.training.job import Job, Report, write_job

REPORT = "exsearch-report "
"""Before a report on standard output, where libraries print, too."""
SECONDS_TO_END = 15.0
"""Given to ranks that are told to stop; one that waits for a lost one may not hear of it."""


def train_on_ranks(job: Job, log: Callable[[int, dict[str, float]], None], rewind: Callable[[int], None]) -> None:
    """Run a job on `config.ranks` processes. Raises what the first of them raised, or ExSearchError if one was lost."""
    failed: ExSearchError | None = None
    with tempfile.TemporaryFile() as file:  # it has no name, so nothing of it stays, however this ends
        write_job(file, job)
        reading, writing = os.pipe()
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            ranks = _Ranks(job.config.ranks, file, writing)
            try:
                for line in lines:
                    if not line.startswith(REPORT):
                        sys.stderr.write(line)
                        continue
                    report = msgspec.json.decode(line.removeprefix(REPORT), type=Report)
                    if report.error:
                        failed = (UsageError if report.mistake else ExSearchError)(report.error)
                    elif report.figures is None:
                        rewind(report.step)
                    else:
                        log(report.step, report.figures)
            finally:
                succeeded = ranks.end()
    if failed is not None:
        raise failed
    if not succeeded:
        raise ExSearchError(f"{job.label}: a training process was lost; see above, and continue with the same command")


class _Ranks:
    """Processes that end together: if one fails, the others would wait for it."""

    def __init__(self, count: int, job: IO[bytes], reports: int) -> None:
        """Start them; they read the job from standard input and report to the pipe `reports`, which is closed here."""
        # where they find each other
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
        threads = str(max(1, len(os.sched_getaffinity(0)) // count))
        common = {"OMP_NUM_THREADS": threads} | os.environ
        common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port)}
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(count):
                own = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                started = start_module("exsearch.training.rank_process", stdin=job, stdout=reports, env=own)
                self._processes.append(started)
        except BaseException:
            self.end()
            raise
        finally:
            os.close(reports)
        for process in self._processes:
            threading.Thread(target=self._watch, args=(process,), name="rank", daemon=True).start()

    def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        if process.wait():
            self.end()

    def end(self) -> bool:
        """Let those end that have not yet, by force if they take long; return whether all of them succeeded."""
        for process in self._processes:
            process.terminate()
        until = time.monotonic() + SECONDS_TO_END
        for process in self._processes:
            try:
                process.wait(max(until - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return not any(process.returncode for process in self._processes)
