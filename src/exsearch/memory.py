"""Giving memory back that nothing uses any more, so that the next stage can have it."""

import ctypes
import gc
import sys

import torch


def give_back_memory() -> None:
    """Return unused memory to the machine and to its GPUs.

    The C library keeps what a training has freed, some gigabytes of many small blocks, and torch what it had of a GPU:
    an engine in another process could not have them.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)
