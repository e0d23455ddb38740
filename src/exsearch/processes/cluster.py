"""Joins a Ray cluster."""

import contextlib
import sys

from exsearch.processes.children import guard_others
from exsearch.processes.stopping import handlers_kept


def join(address: str) -> None:
    """Connect to the cluster at `address` (as for `ray.init`; `local` starts one here). Raises ConnectionError.

    Signals stop this process as before. Workers import modules from where Python and PYTHONPATH have them; Ray would
    put the working folder first.
    """
    import ray

    guard_others()
    with handlers_kept(), contextlib.chdir(sys.prefix):
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
