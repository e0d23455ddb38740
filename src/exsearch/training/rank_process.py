"""One rank: `torchrun -m exsearch.training.rank_process`, started by training/launch.py, its job on standard input."""

import os
import select
import sys
import threading
import time

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.trouble import as_told
from exsearch.processes import stopping
from exsearch.training.job import Job, Report, read_job
from exsearch.training.launch import REPORT
from exsearch.training.trainer import train_job

ENTRY = "exsearch.training.rank_process"
"""This module, for whoever starts ranks."""
SECONDS_TO_HEAR = 3.0
"""Before an error that may be the end of another rank: torchrun ends this one then, which has nothing to add."""


def main() -> None:
    """Train; the first rank reports its steps, each rank what ends it: torchrun ends the others when one has failed."""
    stopping.listen()
    threading.Thread(target=_end_with_starter, name="starter", daemon=True).start()
    try:
        _train(read_job(sys.stdin.fileno()))
    except KeyboardInterrupt:  # its starter says so, and waits
        os._exit(1)
    stopping.end(0)  # all is written; threads of torch that outlive the interpreter would abort the process


def _train(job: Job) -> None:
    try:
        train_job(
            job,
            log=lambda step, figures: _report(Report(step, figures)),
            rewind=lambda step: _report(Report(step)),
        )
    except Exception as error:
        if stopping.was_asked():
            os._exit(1)
        if (told := as_told(error)) is None:
            time.sleep(SECONDS_TO_HEAR)
            raise
        _report(Report(0, error=str(told), mistake=isinstance(told, UsageError)))
        stopping.leave(1)


def _end_with_starter() -> None:
    """End this process once nobody can read its reports any more."""
    standard_output = select.poll()
    standard_output.register(sys.stdout.fileno(), 0)  # for its end alone
    standard_output.poll()
    os._exit(1)


def _report(report: Report) -> None:
    # in one piece, since other ranks write to the same pipe: `print` would write the end of the line by itself
    sys.stdout.write(f"{REPORT}{msgspec.json.encode(report).decode()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
