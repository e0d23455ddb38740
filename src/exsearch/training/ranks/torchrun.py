"""torchrun without its traceback: `python -m exsearch.training.ranks.torchrun COUNT MODULE`, started by launch.py.

torchrun prints a traceback of its own whenever a run does not succeed, whether a rank has reported why or a signal has
ended it.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main() -> None:
    """Run COUNT ranks, processes that start with MODULE; exit code 1 unless all of them succeed."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    words = ["--standalone", f"--nproc-per-node={sys.argv[1]}", "-m", sys.argv[2]]
    try:
        run(parse_args(words))
    except (ChildFailedError, SignalException):
        sys.exit(1)


if __name__ == "__main__":
    main()
