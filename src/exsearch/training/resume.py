"""Resume points of the trainer: weights and optimiser state in safetensors, written atomically; the newest is kept."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from exsearch.core.atomic import atomic_path, children, remove
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.messages import logger
from exsearch.core.trouble import probe

Read = Callable[[str], torch.Tensor | None]
"""Returns a tensor of a resume point by name, None if the point does not have it."""
Restore = Callable[[int, Read], None]
"""Takes a step and a function that reads its tensors."""


def save_resume_point(folder: Path, step: int, state: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Write the state after `step` optimiser steps; older points are removed once it is complete."""
    target = folder / f"step-{step:08d}.safetensors"
    write_tensors(target, state)
    for path in children(folder):
        if "step-" in path.name and path != target:
            remove(path)


def write_tensors(
    target: Path, tensors: Iterable[tuple[str, torch.Tensor]], about: dict[str, str] | None = None
) -> None:
    """Write named tensors, with metadata, as a safetensors file; nothing is left if the disk is full."""
    try:
        with atomic_path(target) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors}, temporary, metadata=about)
    except SafetensorError as error:  # safetensors' form of an operating-system error
        raise ExSearchError(f"{target}: cannot be written: {error}") from error


def load_resume_point(folder: Path, trained: Iterable[str], restore: Restore) -> int:
    """Restore the newest readable point, and return its step; 0 if there is none.

    Raises UsageError for a point that lacks weights of a parameter in `trained`, or has others.
    """
    expected = {f"weight/{name}" for name in trained}
    for path in reversed(children(folder)):
        if not path.match("step-*.safetensors"):
            continue
        step = int(path.stem.removeprefix("step-"))
        try:
            probe(path)  # safetensors reports any file that cannot be opened as missing
            with safe_open(path, framework="pt") as file:
                names = set(file.keys())
                if strange := expected ^ {name for name in names if name.startswith("weight/")}:
                    raise UsageError(f"{path}: a resume point of another model ({min(strange)} differs); remove it")
                restore(step, lambda name: file.get_tensor(name) if name in names else None)  # noqa: B023
        except SafetensorError:
            logger.warning(f"  {path.name}: damaged resume point skipped")
            continue
        return step
    return 0
