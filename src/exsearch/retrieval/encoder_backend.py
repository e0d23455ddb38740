"""How an encoder's network is run: by torch, in float32 or bfloat16, or by OpenVINO."""

import copy
import importlib
import importlib.util
import queue
import sys
import warnings
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch

from exsearch.errors import UsageError
from exsearch.retrieval.encoder_checkpoint import quiet

Backend = Literal["torch-float32", "torch-bfloat16", "openvino-float32", "openvino-bfloat16"]
Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class Runner(Protocol):
    """Runs an encoder's network. Safe to share between threads."""

    parallel: int
    """How many batches at a time use the machine best, and"""
    batch_tokens: int
    """how many tokens, padding included, each should have."""

    def __call__(self, ids: Ids, attended: Ids) -> Vectors:
        """Return vectors, [rows, tokens, dimensions], for ids and attention mask, [rows, tokens] each."""
        ...


def best_backend() -> Backend:
    """Return the fastest back end here whose vectors keep a cosine of .999 with those of float32.

    Says on stderr what is lost where a package is missing.
    """
    if torch.cuda.is_available():
        return "torch-bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "torch-float32"
    bfloat16 = torch.cpu._is_avx512_bf16_supported()
    if importlib.util.find_spec("openvino") is not None:
        return "openvino-bfloat16" if bfloat16 else "openvino-float32"
    print("  passages are encoded by torch; openvino is faster on a CPU: pip install 'exsearch[late]'", file=sys.stderr)
    return "torch-bfloat16" if bfloat16 else "torch-float32"


def prepare(network: torch.nn.Module, backend: Backend) -> Runner:
    """Return what runs `network`, which turns (ids, attended) into vectors, on `backend`.

    Raises UsageError for an unknown back end or one that is not installed.
    """
    if backend not in get_args(Backend):
        raise UsageError(f"unknown back end {backend!r} (known: {', '.join(get_args(Backend))})")
    runtime, precision = backend.split("-")
    return _OpenVino(network, precision) if runtime == "openvino" else _Torch(network, precision)


class _Torch:
    parallel = 1

    def __init__(self, network: torch.nn.Module, precision: str) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        own = network if precision == "float32" else copy.deepcopy(network)
        self._network = own.to(self._device, getattr(torch, precision)).eval()
        self.batch_tokens = 65536 if self._device.type == "cuda" else 2048

    @torch.inference_mode()
    def __call__(self, ids: Ids, attended: Ids) -> Vectors:
        vectors: Any = self._network(*(torch.from_numpy(part).to(self._device) for part in (ids, attended)))
        return vectors.cpu().numpy()  # type: ignore[no-any-return]


class _OpenVino:
    batch_tokens = 1024

    def __init__(self, network: torch.nn.Module, precision: str) -> None:
        if importlib.util.find_spec("openvino") is None:
            raise UsageError(f"the back end openvino-{precision} needs: pip install 'exsearch[late]'")
        openvino: Any = importlib.import_module("openvino")

        example = torch.ones(2, 8, dtype=torch.long)
        padded = example.clone()
        padded[1, 4:] = 0  # without padding, a shortcut for that case would be traced
        with quiet(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer, about branches that do not depend on the input here
            traced = openvino.convert_model(network.eval(), example_input=(example, padded))
        settings = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "THROUGHPUT",  # few threads a batch, several batches at a time
        }
        compiled = openvino.Core().compile_model(traced, "CPU", settings)
        self.parallel = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.parallel):
            self._requests.put(compiled.create_infer_request())

    def __call__(self, ids: Ids, attended: Ids) -> Vectors:
        request = self._requests.get()
        try:
            return np.array(next(iter(request.infer((ids, attended)).values())))
        finally:
            self._requests.put(request)
