"""Estimates the memory that serving an index needs, from its files, before they are opened."""

from pathlib import Path

import msgspec
import psutil

from exsearch.core.errors import UsageError
from exsearch.retrieval.index.folder import read_index_info

_TIMES_LARGER_IN_MEMORY = {".json": 6, ".faiss": 1}
"""Memory per byte of the files that are read whole: JSON objects need more than their text. Others are mapped."""
_PROGRAM = 300 << 20
"""Bytes of Python with numpy, numba and Arrow, and some room for requests."""
_ENCODER_LIBRARIES = 500 << 20
"""Bytes of torch or OpenVINO with tokenizers."""
_OTHER_MODEL = 100 << 20
"""Bytes of the embedded encoder; also assumed for a model whose weights are not here yet."""
_CGROUP = Path("/sys/fs/cgroup")


class MemoryNeed(msgspec.Struct, frozen=True):
    """Bytes needed to serve an index."""

    mapped: int
    """Read from disk as needed; the operating system caches what is used often, and drops it when memory is short."""
    resident: int
    """Must fit."""


def memory_need(index: Path, corpus: Path, processes: int = 1) -> MemoryNeed:
    """Estimate from the sizes of the files in the two folders, for `processes` processes that each open the index."""
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
    if models := _models(index):
        resident += _ENCODER_LIBRARIES + sum(map(_weights, models))
    return MemoryNeed(mapped, resident * processes)


def _models(index: Path) -> set[str]:
    """Return the encoders and the re-ranker of an index and of its members."""
    infos = [read_index_info(file.parent) for file in index.rglob("index.json")]
    encoders = {info.encoder.id for info in infos if info.encoder is not None}
    return encoders | {info.parameters["reranker"] for info in infos if info.parameters.get("reranker")}


def _weights(model: str) -> int:
    """Return the size of a model's weights in bytes, in its folder or in the hub's cache."""
    if Path(model).is_dir():
        return sum(file.stat().st_size for file in Path(model).glob("*.safetensors")) or _OTHER_MODEL
    # imported late: an index without a model does not need the hub
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, "model.safetensors")
    except HFValidationError:  # a folder that has moved; opening the index reports that
        cached = None
    return Path(cached).stat().st_size if isinstance(cached, str) else _OTHER_MODEL


def available_memory() -> int:
    """Return the bytes that a new process can use; in a container, at most what it has left."""
    available = int(psutil.virtual_memory().available)
    try:
        limit, current = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        counts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # not a container, or one without a limit ("max")
        return available
    # cached files that were not read lately are dropped when memory is short
    return max(min(available, limit - current + int(counts.get("inactive_file", 0))), 0)


def refuse_if_too_large(index: Path, need: MemoryNeed, available: int) -> None:
    """Raise UsageError, with what to do, if `need` exceeds `available` bytes."""
    if need.resident > available:
        raise UsageError(
            f"{index}: needs about {gigabytes(need.resident)} of memory, {gigabytes(available)} is free; stop other "
            "programs, use a machine with more, build a smaller index (exsearch index --help), or try it "
            "anyway (--force)"
        )


def gigabytes(count: int) -> str:
    """Return `count` bytes in a readable form."""
    return f"{count / 1e9:.1f} GB"
