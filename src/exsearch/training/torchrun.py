"""torchrun without its last words: `python -m exsearch.training.torchrun COUNT MODULE`, started by training/launch.py.

It writes a traceback of its own over every end of a run that is not a success, whether a rank has said why or a signal
has ended it.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main() -> None:
    """Run the ranks, COUNT processes that start with MODULE; exit code 1 unless all of them succeed."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    words = ["--standalone", f"--nproc-per-node={sys.argv[1]}", "-m", sys.argv[2]]
    try:
        run(parse_args(words))
    except (ChildFailedError, SignalException):
        sys.exit(1)


if __name__ == "__main__":
    main()
