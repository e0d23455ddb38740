"""One rank: `torchrun -m exsearch.training.rank_process JOB`, started by training/launch.py."""

import os
import sys
from pathlib import Path

import msgspec

from exsearch.errors import ExSearchError, UsageError
from exsearch.training.job import Report, read_job
from exsearch.training.launch import REPORT
from exsearch.training.trainer import train


def main() -> None:
    """Train; the first rank reports. A report that nobody reads ends the run: who started it is gone."""
    job = read_job(Path(sys.argv[1]))
    try:
        train(
            Path(job.base),
            job.examples,
            Path(job.output),
            job.config,
            job.model,
            job.seed,
            job.label,
            log=lambda step, figures: _tell(Report(step, figures)),
            rewind=lambda step: _tell(Report(step)),
            section=job.section,
        )
    except ExSearchError as error:
        if os.environ["RANK"] == "0":
            _tell(Report(0, error=str(error), mistake=isinstance(error, UsageError)))
        sys.exit(1)


def _tell(report: Report) -> None:
    print(REPORT + msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    main()
