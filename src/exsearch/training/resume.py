"""Resume points of the trainer: weights and optimiser state in safetensors, written atomically, newest kept."""

import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from exsearch.errors import ExSearchError
from exsearch.files import atomic_path, remove

_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_resume_point(
    folder: Path, step: int, parameters: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> None:
    """Write the state after `step` optimiser steps; older points are removed once it is complete."""
    tensors = {f"weight/{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for moment in _MOMENTS:
            tensors[f"{moment}/{name}"] = optimiser.state[parameter][moment]
    target = folder / f"step-{step:08d}.safetensors"
    try:
        with atomic_path(target) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    except SafetensorError as error:  # what safetensors makes of an operating-system error
        raise ExSearchError(f"{target}: cannot write the resume point: {error}") from error
    for path in folder.iterdir():
        if path != target:
            remove(path)


def load_resume_point(folder: Path, parameters: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> int:
    """Restore the newest readable point in place and return its step; 0 if there is none."""
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            with safe_open(path, framework="pt") as file:
                _restore(file, int(path.stem.removeprefix("step-")), parameters, optimiser)
        except SafetensorError as error:
            print(f"  {path.name}: unreadable resume point skipped ({error})", file=sys.stderr)
            continue
        return int(path.stem.removeprefix("step-"))
    return 0


def _restore(
    file: safe_open, step: int, parameters: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(file.get_tensor(f"weight/{name}"))
            state = {moment: file.get_tensor(f"{moment}/{name}").to(parameter.device) for moment in _MOMENTS}
            # The fused optimiser counts on the parameter's own device.
            optimiser.state[parameter] = {"step": torch.tensor(float(step), device=parameter.device), **state}
