"""Training on several ranks of this machine, started by torchrun, which report to this process."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import msgspec

from exsearch.core.errors import ExSearchError, UsageError
from exsearch.hardware.memory import is_out_of_memory
from exsearch.processes.children import start_module
from exsearch.training.job import Job, RankReport, write_job

REPORT = "exsearch-report "
"""Prefix of a report on standard output, where libraries print as well."""
SECONDS_TO_END = 15.0
"""Seconds given to ranks that are asked to stop; one that waits for a lost rank may not notice."""


def train_on_ranks(
    job: Job, log: Callable[[int, dict[str, float]], None], rewind: Callable[[int], None], *, entry: str
) -> None:
    """Run a job on `config.ranks` processes, each of which starts with the module `entry`.

    Raises the error that the first of them raised, or ExSearchError if one was lost.
    """
    failed: ExSearchError | None = None
    with tempfile.TemporaryFile() as file:  # without a name, so that nothing is left behind
        write_job(file, job)
        reading, writing = os.pipe()
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            torchrun = _start(entry, job.config.ranks, file, writing)
            try:
                for line in lines:
                    if not line.startswith(REPORT):
                        sys.stderr.write(line)
                        continue
                    report = msgspec.json.decode(line.removeprefix(REPORT), type=RankReport)
                    if report.error:
                        failed = failed or (UsageError if report.mistake else ExSearchError)(report.error)
                    elif report.figures is None:
                        rewind(report.step)
                    else:
                        log(report.step, report.figures)
            except BaseException:
                _stop(torchrun)
                raise
            torchrun.wait()
    if failed is not None:
        raise failed
    if torchrun.returncode:
        raise ExSearchError(
            f"{job.label}: a training process was lost; see above. Run the same command again to resume; if it "
            f"ran out of memory, add {less_memory(job)}"
        )


@contextmanager
def explained_if_out_of_memory(job: Job) -> Iterator[None]:
    """Turn an out-of-memory error into one line that names the settings that need less memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = less_memory(job)
        raise ExSearchError(f"{job.label}: out of memory. Resume with the same command and {advice}") from error


def less_memory(job: Job) -> str:
    """Return the options with which a training run needs less memory for the same result."""
    config, section = job.config, job.section
    options = [f"--set {section}micro_batch_tokens={max(config.micro_batch_tokens // 2, 1)}"]
    if not config.gradient_checkpointing:
        options.append(f"--set {section}gradient_checkpointing=true")
    return f"{' or '.join(options)}, which change only memory and time"


def _start(entry: str, count: int, job: IO[bytes], reports: int) -> "subprocess.Popen[bytes]":
    """Start `count` ranks, which read the job from standard input and report to a pipe, whose end here is closed."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    environment = {"OMP_NUM_THREADS": threads} | os.environ | {"PYTHONSAFEPATH": "1"}
    try:
        return start_module(
            "exsearch.training.ranks.torchrun", str(count), entry, stdin=job, stdout=reports, env=environment
        )
    finally:
        os.close(reports)


def _stop(torchrun: "subprocess.Popen[bytes]") -> None:
    """End the ranks, by force if that takes long; remaining ones notice that nobody reads their reports."""
    torchrun.terminate()
    try:
        torchrun.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        torchrun.kill()
        torchrun.wait()
