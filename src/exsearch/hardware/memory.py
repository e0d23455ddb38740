"""Returns unused memory to the system, so that the next stage can use it."""

import ctypes
import errno
import gc
import os
import sys

import torch

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of mallopt(3)."""
_MAPPED = 1 << 20
"""Block size in bytes from which `free_at_once` maps blocks separately. With SmolLM2-135M, 256 KB saves no more memory
than this for twice its cost in time (a step takes a fifth longer); 4 MB saves a fifth of it."""


def give_back_memory() -> None:
    """Return unused memory to the machine and to its GPUs.

    The C library keeps what training has freed, some gigabytes of many small blocks, and torch keeps GPU memory: an
    engine in another process could not use either.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that main memory or a GPU is out of memory.

    For main memory, torch has no exception type of its own: its message is the operating system's.
    """
    if isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or os.strerror(errno.ENOMEM) in str(error)
    return isinstance(error, MemoryError)


def free_at_once() -> None:
    """Make the C library return large blocks as soon as they are freed, for the rest of this process.

    By default, it keeps them in its heap and raises the size limit for mapping to up to 32 MB; activations and
    gradients of a pass then leave holes between the weights and moments that stay. Mapping takes time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl does not have it, and returns blocks by itself
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _MAPPED)
