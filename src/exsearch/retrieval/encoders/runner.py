"""Runs an encoder's network: by torch, in float32 or bfloat16, or by OpenVINO."""

import copy
import functools
import importlib.util
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch

from exsearch.core.errors import UsageError
from exsearch.core.messages import logger
from exsearch.core.registry import unknown
from exsearch.hardware.devices import bfloat16_is_fast
from exsearch.processes import compute
from exsearch.retrieval.encoders.base import Checkpoint

Backend = Literal["torch-float32", "torch-bfloat16", "openvino-float32", "openvino-bfloat16"]
Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class Runner(Protocol):
    """Runs an encoder's network. Safe to share between threads."""

    parallel: int
    """Number of batches to run concurrently."""
    batch_tokens: int
    """Target number of tokens per batch, padding included."""

    def __call__(self, ids: Ids, attended: Ids) -> Vectors:
        """Return vectors, [rows, tokens, dimensions], for ids and attention mask, [rows, tokens] each."""
        ...


@functools.cache
def best_backend() -> Backend:
    """Return the fastest back end on this machine whose vectors have a cosine of .999 with those of float32.

    Prints on stderr, once, what is slower because a package is missing.
    """
    if torch.cuda.is_available():
        return "torch-bfloat16" if bfloat16_is_fast("cuda") else "torch-float32"
    bfloat16 = bfloat16_is_fast("cpu")
    if importlib.util.find_spec("openvino") is not None:
        return "openvino-bfloat16" if bfloat16 else "openvino-float32"
    logger.info("  encoding by torch; OpenVINO is faster on a CPU: pip install 'exsearch[retrieval]'")
    return "torch-bfloat16" if bfloat16 else "torch-float32"


def prepare(checkpoint: Checkpoint, backend: str) -> Runner:
    """Return a runner of the checkpoint's network on `backend`.

    Raises UsageError for an unknown back end or one that is not installed.
    """
    if backend not in get_args(Backend):
        raise UsageError(unknown("back end", backend, get_args(Backend)))
    runtime, precision = backend.split("-")
    if runtime == "torch":
        return _TorchRunner(checkpoint, precision)
    from exsearch.retrieval.encoders.openvino import OpenVinoRunner

    return OpenVinoRunner(checkpoint, precision)


class _TorchRunner:
    parallel = 1

    @compute.owned
    def __init__(self, checkpoint: Checkpoint, precision: str) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = checkpoint.network if precision == "float32" else copy.deepcopy(checkpoint.network)
        self._network = network.to(self._device, getattr(torch, precision)).eval()
        self.batch_tokens = 65536 if self._device.type == "cuda" else 2048

    @compute.owned
    @torch.inference_mode()
    def __call__(self, ids: Ids, attended: Ids) -> Vectors:
        vectors: Any = self._network(*(torch.from_numpy(part).to(self._device) for part in (ids, attended)))
        return vectors.cpu().numpy()  # type: ignore[no-any-return]
