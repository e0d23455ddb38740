"""A model and its optimiser, on one rank or several: replicated on all, or sharded over them.

All of them make the same step: gradients are summed over ranks and micro-batches, and the loss is divided beforehand by
quantities of the whole batch.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any, Protocol

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from exsearch.config import TrainingConfig
from exsearch.core.errors import ExSearchError
from exsearch.engine.models.layers import decoder_layers
from exsearch.training.loss import Packed, Packing, WeightedLoss
from exsearch.training.ranks.ranks import Ranks
from exsearch.training.resume import Read

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of each parameter."""


class Learner(Protocol):
    """A model and its optimiser, as the trainer needs them. All ranks call the same methods in the same order."""

    description: str
    """Description of what is running."""
    packing: Packing
    """How to pack its micro-batches."""
    parameters: dict[str, torch.nn.Parameter]
    """The trained parameters, by name in the model."""

    def accumulate(self, packed: Packed, factor: float, last: bool) -> torch.Tensor:
        """Add the gradient of `factor` times the loss of a micro-batch; return this rank's fields of LossSums.

        `last` marks the last micro-batch of a step.
        """
        ...

    def measure(self, packed: Packed) -> torch.Tensor:
        """Return the fields of LossSums of a micro-batch, without a gradient."""
        ...

    def step(self, rate: float) -> float:
        """Make an optimiser step with a learning rate; return the norm of the gradient before clipping."""
        ...

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the trained weights by name in the model, whole, in main memory."""
        ...

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield weights and moments, whole, in main memory."""
        ...

    def restore(self, step: int, read: Read) -> None:
        """Set weights and moments to what `read` returns for the names of `state`."""
        ...


class TorchLearner:
    """AdamW by torch: on one rank, replicated (DDP), or sharded over the ranks (FSDP2)."""

    def __init__(
        self, loss: WeightedLoss, config: TrainingConfig, ranks: Ranks, dtype: torch.dtype, sharded: bool
    ) -> None:
        """Take a model that is on its device, with float32 weights; `dtype` is that of its forward pass."""
        self._loss, self._ranks, self._dtype = loss, ranks, dtype
        self._module: torch.nn.Module = loss
        self.description = f"one process on {ranks.device}"
        if sharded:
            _shard(loss, ranks)
            self.description = (
                f"FSDP2, weights, gradients and moments sharded over {ranks.count} ranks on {ranks.device}"
            )
        elif ranks.count > 1:
            self._module = DistributedDataParallel(loss, **_buffers_stay())
            self.description = f"DDP, {ranks.count} copies on {ranks.device}"
        self.parameters = trained(loss)
        self.packing: Packing = loss.packing
        self._max_norm = config.max_grad_norm
        # Fused: on two cores the default implementation takes seconds per step, as long as the rest of the step.
        self._optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def accumulate(self, packed: Packed, factor: float, last: bool) -> torch.Tensor:
        """Run forward and backward. Gradients are averaged over ranks, hence the factor `ranks.count`."""
        no_sync: AbstractContextManager[object] = nullcontext()
        if isinstance(self._module, DistributedDataParallel) and not last:
            no_sync = self._module.no_sync()
        with no_sync:
            with self._mixed():
                result: tuple[torch.Tensor, torch.Tensor] = self._module(packed)
            (result[0] * (factor * self._ranks.count)).backward()
        return result[1]

    def measure(self, packed: Packed) -> torch.Tensor:
        """Run forward."""
        with torch.no_grad(), self._mixed():
            measured: torch.Tensor = self._module(packed)[1]
        return measured

    def _mixed(self) -> torch.autocast:
        """Return the context of a forward pass."""
        return torch.autocast(self._ranks.device.split(":")[0], self._dtype, enabled=self._dtype != torch.float32)

    def step(self, rate: float) -> float:
        """Clip, step, and clear the gradient."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self._max_norm)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad()
        return float(_whole(norm))

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the trained weights."""
        for name, parameter in self.parameters.items():
            yield name, _whole(parameter.detach()).cpu()

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield weights, then moments if there was a step."""
        return torch_state(self.parameters, self._optimiser)

    def restore(self, step: int, read: Read) -> None:
        """Set weights and moments."""
        restore_torch(self.parameters, self._optimiser, step, read)


def trained(loss: WeightedLoss) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, by name in the model."""
    return {name: p for name, p in loss.model.named_parameters() if p.requires_grad}


def torch_state(
    parameters: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield weights and AdamW's moments, whole, in main memory."""
    for name, parameter in parameters.items():
        yield f"weight/{name}", _whole(parameter.detach()).cpu()
        for moment in MOMENTS if parameter in optimiser.state else ():
            yield f"{moment}/{name}", _whole(optimiser.state[parameter][moment]).cpu()


@torch.no_grad()
def restore_torch(
    parameters: dict[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    step: int,
    read: Read,
) -> None:
    """Set weights and AdamW's moments to those of a step; a parameter without gradients so far has no moments."""
    for name, parameter in parameters.items():
        weight = read(f"weight/{name}")
        assert weight is not None, "checked when the resume point was opened"
        parameter.copy_(_like(parameter, weight))
        saved = {moment: read(f"{moment}/{name}") for moment in MOMENTS}
        moments = {moment: _like(parameter, value) for moment, value in saved.items() if value is not None}
        if moments:
            # The fused optimiser needs the step count on the parameter's device.
            optimiser.state[parameter] = {"step": torch.tensor(float(step), device=parameter.device), **moments}


def _shard(loss: WeightedLoss, ranks: Ranks) -> None:
    """Shard each layer's parameters, and then all others, over the ranks. Raises ExSearchError if that fails."""
    mesh = init_device_mesh(ranks.device.split(":")[0], (ranks.count,))
    for layer in decoder_layers(loss.model):
        fully_shard(layer, mesh=mesh)
    fully_shard(loss, mesh=mesh)
    whole = [name for name, parameter in loss.named_parameters() if not isinstance(parameter, DTensor)]
    if whole:
        raise ExSearchError(f"sharding = fsdp, but parameters such as {whole[0]} are not sharded over the ranks")


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a possibly sharded tensor as a whole."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(parameter: torch.nn.Parameter, value: torch.Tensor) -> torch.Tensor:
    """Return a value on the parameter's device, sharded like it."""
    data = parameter.detach()
    if isinstance(data, DTensor):
        return distribute_tensor(value.to(data.device), data.device_mesh, data.placements)
    return value.to(data.device)


def _buffers_stay() -> dict[str, Any]:
    """Return the option by which no buffers are sent before each forward pass: they never differ between ranks."""
    renamed = "forward_sync_buffers"  # in torch 2.13, which warns of the old name
    return {renamed if renamed in signature(DistributedDataParallel).parameters else "broadcast_buffers": False}
