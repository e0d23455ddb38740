"""Training on several ranks of this machine: torchrun starts them, this process reads what the first one tells."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from exsearch.errors import ExSearchError, UsageError
from exsearch.training.job import Job, Report, write_job

REPORT = "exsearch-report "
"""Before a report on standard output, where libraries print, too."""


def train_on_ranks(job: Job, log: Callable[[int, dict[str, float]], None], rewind: Callable[[int], None]) -> None:
    """Run a job on `config.ranks` processes. Raises what the first of them raised, or ExSearchError if one was lost."""
    count = job.config.ranks
    failed: ExSearchError | None = None
    with tempfile.TemporaryDirectory(prefix="exsearch-") as folder:
        path = Path(folder) / "job"
        write_job(path, job)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command += ["-m", "exsearch.training.rank_process", str(path)]
        threads = str(max(1, len(os.sched_getaffinity(0)) // count))
        environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
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
    if failed is not None:
        raise failed
    if process.returncode:
        raise ExSearchError(f"{job.label}: a training process was lost; see above, and continue with the same command")
