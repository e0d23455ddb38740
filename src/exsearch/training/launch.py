"""Training on several ranks of this machine: torchrun starts them, this process reads what the first one tells."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from exsearch.config import TrainingConfig
from exsearch.errors import ExSearchError, UsageError
from exsearch.memory import is_out_of_memory
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
        raise ExSearchError(
            f"{job.label}: a training process was lost; see above. The same command continues; if it was killed for "
            f"want of memory, add {less_memory(job.config, job.section)}"
        )


@contextmanager
def explained_if_out_of_memory(label: str, config: TrainingConfig, section: str) -> Iterator[None]:
    """Turn the want of memory into one line that says which settings need less of it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = less_memory(config, section)
        raise ExSearchError(f"{label}: out of memory. Continue with the same command and {advice}") from error


def less_memory(config: TrainingConfig, section: str) -> str:
    """Return the options under which a training run needs less memory and has the same result."""
    options = [f"--set {section}micro_batch_tokens={max(config.micro_batch_tokens // 2, 1)}"]
    if not config.gradient_checkpointing:
        options.append(f"--set {section}gradient_checkpointing=true")
    return f"{' or '.join(options)}, which change memory and time alone"
