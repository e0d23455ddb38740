"""How much memory serving an index takes, told from its files before they are opened."""

from pathlib import Path

import msgspec
import psutil

from exsearch.errors import UsageError
from exsearch.retrieval.index import IndexInfo

_TIMES_LARGER_IN_MEMORY = {".json": 6, ".faiss": 1}
"""Of the files that are read as a whole: objects of JSON take more than its text. All others are mapped."""
_PROGRAM = 300 << 20
"""Python with numpy, numba and Arrow, with some room for requests."""
_ENCODER_LIBRARIES = 500 << 20
"""torch or OpenVINO with tokenizers."""
_EMBEDDED_ENCODER = 100 << 20
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class MemoryNeed(msgspec.Struct, frozen=True):
    """Bytes of an index that is served."""

    mapped: int
    """Read from disk as needed; the operating system keeps what is used often, and drops it when memory is short."""
    resident: int
    """Must fit."""


def memory_need(index: Path, info: IndexInfo, corpus: Path) -> MemoryNeed:
    """Estimate from the sizes of the files in the two folders."""
    mapped, resident = 0, _PROGRAM
    for folder in (index, corpus):
        for file in folder.rglob("*"):
            if not file.is_file():
                continue
            size = file.stat().st_size
            if file.suffix in _TIMES_LARGER_IN_MEMORY:
                resident += size * _TIMES_LARGER_IN_MEMORY[file.suffix]
            else:
                mapped += size
    if info.encoder is not None:
        weights = Path(info.encoder.id)
        own = sum(file.stat().st_size for file in weights.glob("*.safetensors")) if weights.is_dir() else 0
        resident += _ENCODER_LIBRARIES + (own or _EMBEDDED_ENCODER)
    return MemoryNeed(mapped, resident)


def available_memory() -> int:
    """Return the bytes that a new process can take; in a container not more than its limit."""
    available = int(psutil.virtual_memory().available)
    try:
        return min(available, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available


def refuse_if_too_large(index: Path, need: MemoryNeed, available: int) -> None:
    """Raise UsageError, with what to do, if `need` does not fit into `available` bytes."""
    if need.resident > available:
        raise UsageError(
            f"{index}: needs about {gigabytes(need.resident)} of memory, {gigabytes(available)} is free; stop other "
            "programs, take a machine with more, build a smaller index (exsearch index --help), or try it all the "
            "same (--force)"
        )


def gigabytes(count: int) -> str:
    """Return `count` bytes for people."""
    return f"{count / 1e9:.1f} GB"
