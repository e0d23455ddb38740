"""Resume points of the trainer: weights and optimiser state in safetensors, written atomically, newest kept."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from exsearch.core.atomic import atomic_path, children, remove
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.trouble import probe

Read = Callable[[str], torch.Tensor | None]
"""Returns a tensor of a resume point by its name, None if the point has none of that name."""
Restore = Callable[[int, Read], None]
"""Takes a step and what reads its tensors."""


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
    """Write named tensors, with metadata, as a safetensors file; nothing is left of it if the disk is full."""
    try:
        with atomic_path(target) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors}, temporary, metadata=about)
    except SafetensorError as error:  # what safetensors makes of an operating-system error
        raise ExSearchError(f"{target}: cannot write it: {error}") from error


def load_resume_point(folder: Path, trained: Iterable[str], restore: Restore) -> int:
    """Restore the newest readable point and return its step; 0 if there is none.

    Raises UsageError for a point that lacks the weights of one of the parameters `trained`, or has more.
    """
    wanted = {f"weight/{name}" for name in trained}
    for path in reversed(children(folder)):
        if not path.match("step-*.safetensors"):
            continue
        step = int(path.stem.removeprefix("step-"))
        try:
            probe(path)  # safetensors calls whatever cannot be opened missing
            with safe_open(path, framework="pt") as file:
                held = set(file.keys())
                if strange := wanted ^ {name for name in held if name.startswith("weight/")}:
                    raise UsageError(f"{path}: a resume point of another model ({min(strange)} differs); remove it")
                restore(step, lambda name: file.get_tensor(name) if name in held else None)  # noqa: B023
        except SafetensorError:
            print(f"  {path.name}: damaged resume point skipped", file=sys.stderr)
            continue
        return step
    return 0
