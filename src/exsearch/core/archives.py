"""Checkpoints in forms that are not loaded directly: as a tar archive, or with weights that torch pickled.

Both are converted once, into the user's cache folder, by content: an archive is unpacked, and pickled weights become
safetensors. Neither can write elsewhere or run code: links and paths that lead out of the archive are refused, and
torch unpickles nothing but tensors.
"""

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from exsearch.core.atomic import atomic_path
from exsearch.core.cache import cache_folder
from exsearch.core.checksums import file_sum
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.messages import logger

MAX_BYTES = 500 * 10**9
"""Of an archive's content."""
MAX_FILES = 10_000
_PICKLED, _PICKLED_INDEX = "pytorch_model*.bin", "pytorch_model.bin.index.json"


def checkpoint_folder(location: Path) -> Path:
    """Return the folder of a checkpoint that may be an archive, or have pickled weights. Raises UsageError."""
    folder = _unpacked(location) if location.is_file() else location
    return _with_safetensors(folder) if _pickled(folder) and not list(folder.glob("*.safetensors")) else folder


def _pickled(folder: Path) -> list[Path]:
    return sorted(folder.glob(_PICKLED))


def _cached(kind: str, name: str, files: list[Path]) -> Path:
    """Return the folder for what becomes of these files, by the content of all."""
    digest = fingerprint([(file.name, file_sum(file).xxh3) for file in files])
    return cache_folder() / kind / f"{name}-{digest}"


def _unpacked(archive: Path) -> Path:
    """Unpack an archive, unless that was done before; return the folder in it that has a config.json."""
    if not tarfile.is_tarfile(archive):
        raise UsageError(f"{archive}: neither a folder nor a tar archive; name a checkpoint folder, or its .tar.gz")
    target = _cached("unpacked", archive.name.split(".tar")[0], [archive])
    if not target.is_dir():
        with atomic_path(target) as temporary:
            temporary.mkdir()
            _unpack(archive, temporary)
        logger.info(f"  {archive}: unpacked into {target}")
    configs = sorted(target.rglob("config.json"), key=lambda path: len(path.parts))
    if not configs:
        raise UsageError(f"{archive}: has no config.json, so it is not a checkpoint")
    return configs[0].parent


def _unpack(archive: Path, target: Path) -> None:
    total = 0
    try:
        with tarfile.open(archive) as tar:
            for number, member in enumerate(tar, start=1):
                _check_member(archive, member)
                total += member.size
                if total > MAX_BYTES or number > MAX_FILES:
                    raise UsageError(
                        f"{archive}: more than {MAX_FILES} files or {MAX_BYTES / 1e9:.0f} GB; unpack it yourself"
                    )
                if not PurePosixPath(member.name).name.startswith("._"):  # what macOS adds
                    tar.extract(member, target, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UsageError(f"{archive}: damaged, it cannot be unpacked ({error}); download it again") from None


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"{archive}: {member.name!r} leads out of the archive; it is not unpacked")
    if not (member.isfile() or member.isdir()):
        raise UsageError(f"{archive}: {member.name!r} is a link or a device; it is not unpacked")


def _with_safetensors(folder: Path) -> Path:
    """Return a copy of a checkpoint whose pickled weights are converted; made once."""
    pickled = _pickled(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    target = _cached("converted", folder.name, files)
    if target.is_dir():
        return target
    with atomic_path(target) as temporary:
        shutil.copytree(folder, temporary, ignore=shutil.ignore_patterns("*.bin", _PICKLED_INDEX, "*.h5", "*.msgpack"))
        for file in pickled:
            _convert(file, temporary / _name(file.name))
        if (folder / _PICKLED_INDEX).is_file():
            index = read_json(folder / _PICKLED_INDEX, dict[str, object])
            names = index.get("weight_map")
            if isinstance(names, dict):
                index["weight_map"] = {weight: _name(str(file)) for weight, file in names.items()}
            write_json(temporary / "model.safetensors.index.json", index)
    logger.info(f"  {folder}: its pickled weights were converted to safetensors, in {target}")
    return target


def _name(pickled: str) -> str:
    return pickled.replace("pytorch_model", "model").replace(".bin", ".safetensors")


def _convert(pickled: Path, target: Path) -> None:
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        weights = torch.load(pickled, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{pickled}: holds something else than weights, or is damaged ({reason})") from None
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise UsageError(f"{pickled}: holds something else than weights by name")
    # tensors may share memory, which safetensors does not allow
    save_file(
        {name: tensor.clone().contiguous() for name, tensor in weights.items()}, target, metadata={"format": "pt"}
    )
