"""Giving memory back that nothing uses any more, so that the next stage can have it."""

import ctypes
import errno
import gc
import os
import sys

import torch

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of mallopt(3)."""
_MAPPED = 1 << 20
"""Bytes from which `free_at_once` has a block mapped on its own. Of SmolLM2-135M, 256 KB save no more memory than this
for twice its cost in time (a step takes a fifth longer); 4 MB save a fifth of it."""


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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a processor or a GPU has no memory left.

    For a processor torch has no type of its own: it tells the operating system's words for it.
    """
    if isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or os.strerror(errno.ENOMEM) in str(error)
    return isinstance(error, MemoryError)


def free_at_once() -> None:
    """Let the C library give large blocks back as soon as they are freed, for the rest of this process.

    It would keep them in its heap and raise the size from which it does not, up to 32 MB: between the weights and
    moments that stay, holes are left where activations and gradients of a pass have been. Mapping costs time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and gives them back by itself
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _MAPPED)
