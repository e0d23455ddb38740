"""The processes of one training run, as started by torchrun; without it, there is one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This process, among those that train together."""

    rank: int
    count: int
    device: str

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def wait(self) -> None:
        """Wait until all ranks have arrived."""
        if self.count > 1:
            dist.barrier()


def is_first() -> bool:
    """Return whether this process writes and reports, before it has joined the others."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the process group that torchrun's variables describe, while the context lasts.

    `device` is where a single process would train; with several, each takes its own GPU.
    """
    if "RANK" not in os.environ:
        yield Ranks(0, 1, device)
        return
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
