"""Arrays in files: written completely, and memory-mapped, read-only.

No file stays open, so thousands can be mapped under any limit.
"""

import ctypes
import functools
import io
import mmap
import os
import sys
import tokenize
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BAD_HEADER = (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, tokenize.TokenError)
"""What numpy raises for a damaged header, which it parses as Python."""
_NPY_LENGTH = slice(8, 10)
"""Offset in an .npy file of version 1.0 of the length of the rest of its header."""


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write what `numpy.save` would, to exactly `path`. Raises OSError if not all of it can be written.

    If a disk becomes full with the last few kilobytes, `numpy.save` reports nothing.
    """
    whole = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.reshape(-1).view(np.uint8).data)


def map_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """Return the content of a file. It stays readable if the file is deleted; its memory is the system's file cache."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            empty = np.empty(0, dtype=np.uint8)
            empty.flags.writeable = False
            return empty
        if os.name != "posix":  # Windows has no such limit
            return np.asarray(np.memmap(file, mode="r"))
        if sys.version_info >= (3, 13):
            return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, trackfd=False), dtype=np.uint8)
        return np.asarray(_Mapping(file.fileno(), size, path))


def map_array(path: Path) -> npt.NDArray[Any]:
    """Return the array in a file written by `numpy.save`. Raises ValueError if the file is not exactly that."""
    content = map_bytes(path)
    length = 10 + int.from_bytes(content[_NPY_LENGTH].tobytes(), "little")
    header = io.BytesIO(content[:length].tobytes())
    try:
        version = np.lib.format.read_magic(header)
        if version != (1, 0):
            raise ValueError(path.name)
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(header)
    except BAD_HEADER:
        raise ValueError(f"{path.name} is not an array written by this project") from None
    data = content[header.tell() :]
    if by_column or dtype.hasobject or len(data) != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{path.name}: {len(data)} bytes are not an array of {shape} {dtype}")
    return data.view(dtype).reshape(shape)


def load_array(path: Path) -> npt.NDArray[Any]:
    """Return the array in a file, in memory. Raises ValueError if the file has none."""
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except BAD_HEADER:
        raise ValueError(f"{path.name} is not an array written by this project") from None
    return array


class _Mapping:
    """A mapping by the C library, because up to Python 3.12 `mmap` keeps a descriptor open for each."""

    def __init__(self, descriptor: int, size: int, path: Path) -> None:
        address = _libc().mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == ctypes.c_void_p(-1).value:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
        self.__array_interface__ = {"version": 3, "data": (address, True), "shape": (size,), "typestr": "|u1"}
        unmapped = weakref.finalize(self, _libc().munmap, address, size)
        unmapped.atexit = False  # another thread may still be reading at interpreter exit


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return library
