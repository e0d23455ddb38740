"""One rank: `torchrun -m exsearch.training.ranks.process`, started by launch.py, with its job on standard input."""

import os
import select
import sys
import threading
import time

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.messages import show_messages
from exsearch.core.trouble import as_user_error
from exsearch.processes import stopping
from exsearch.training.job import Job, RankReport, read_job
from exsearch.training.ranks.launch import REPORT
from exsearch.training.trainer import train_job

ENTRY = "exsearch.training.ranks.process"
"""This module's name, for starting ranks."""
SECONDS_TO_HEAR = 3.0
"""Seconds to wait before reporting an error, in case another rank caused it: torchrun then ends this rank meanwhile."""


def main() -> None:
    """Train. The first rank reports its steps, each rank its error; torchrun ends the others when one has failed."""
    stopping.listen()
    show_messages()
    threading.Thread(target=_end_with_starter, name="starter", daemon=True).start()
    try:
        _train(read_job(sys.stdin.fileno()))
    except KeyboardInterrupt:  # the parent process reports it, and waits
        os._exit(1)
    stopping.end(0)  # everything is written; threads of torch that outlive the interpreter would abort the process


def _train(job: Job) -> None:
    try:
        train_job(
            job,
            log=lambda step, figures: _report(RankReport(step, figures)),
            rewind=lambda step: _report(RankReport(step)),
        )
    except Exception as error:
        if stopping.was_asked():
            os._exit(1)
        if (user_error := as_user_error(error)) is None:
            time.sleep(SECONDS_TO_HEAR)
            raise
        _report(RankReport(0, error=str(user_error), mistake=isinstance(user_error, UsageError)))
        stopping.leave(1)


def _end_with_starter() -> None:
    """End this process when nobody can read its reports any longer."""
    standard_output = select.poll()
    standard_output.register(sys.stdout.fileno(), 0)  # only to notice that it is closed
    standard_output.poll()
    os._exit(1)


def _report(report: RankReport) -> None:
    # in one write, since other ranks write to the same pipe: `print` would write the line end separately
    sys.stdout.write(f"{REPORT}{msgspec.json.encode(report).decode()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
