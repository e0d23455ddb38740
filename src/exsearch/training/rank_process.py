"""One rank: `torchrun -m exsearch.training.rank_process`, started by training/launch.py, its job on standard input."""

import os
import select
import sys
import threading
from pathlib import Path

import msgspec

from exsearch import stopping
from exsearch.errors import ExSearchError, UsageError
from exsearch.training.job import Report, read_job
from exsearch.training.launch import REPORT
from exsearch.training.trainer import train


def main() -> None:
    """Train; the first rank reports its steps, each rank what ends it: torchrun ends the others when one has failed."""
    stopping.listen()
    threading.Thread(target=_end_with_starter, name="starter", daemon=True).start()
    job = read_job(sys.stdin.fileno())
    try:
        train(
            Path(job.base),
            job.examples,
            Path(job.output),
            job.config,
            job.model,
            job.seed,
            job.label,
            log=lambda step, figures: _report(Report(step, figures)),
            rewind=lambda step: _report(Report(step)),
            section=job.section,
        )
    except ExSearchError as error:
        _report(Report(0, error=str(error), mistake=isinstance(error, UsageError)))
        stopping.leave(1)
    except KeyboardInterrupt:  # its starter says so, and waits
        os._exit(1)


def _end_with_starter() -> None:
    """End this process once nobody can read its reports any more."""
    standard_output = select.poll()
    standard_output.register(sys.stdout.fileno(), 0)  # for its end alone
    standard_output.poll()
    os._exit(1)


def _report(report: Report) -> None:
    print(REPORT + msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    main()
