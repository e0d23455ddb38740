"""An encoder's network compiled by OpenVINO, for CPUs.

The traced network is kept in the user's cache folder, so that only the first use takes time for tracing.
"""

import importlib.util
import queue
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from exsearch.core.atomic import atomic_path
from exsearch.core.cache import cache_folder
from exsearch.core.checkpoint import quiet
from exsearch.core.errors import UsageError
from exsearch.core.messages import logger
from exsearch.core.trouble import probe
from exsearch.processes import compute
from exsearch.retrieval.encoders.base import Checkpoint

_CONVERSION = 1
"""Part of the cached file's name; raise it when the tracing changes."""


class OpenVinoRunner:
    """Runs several batches at the same time, on few threads each."""

    batch_tokens = 1024

    def __init__(self, checkpoint: Checkpoint, precision: str) -> None:
        """Compile the checkpoint's network for `float32` or `bfloat16`. Raises UsageError if OpenVINO is missing."""
        if importlib.util.find_spec("openvino") is None:
            raise UsageError(f"the back end openvino-{precision} needs: pip install 'exsearch[retrieval]'")
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "THROUGHPUT",
        }
        compiled = openvino.Core().compile_model(_traced(openvino, checkpoint), "CPU", settings)
        self.parallel = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.parallel):
            self._requests.put(compiled.create_infer_request())

    def __call__(self, ids: npt.NDArray[np.int64], attended: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return vectors, [rows, tokens, dimensions], for ids and attention mask, [rows, tokens] each."""
        request = self._requests.get()
        try:
            return np.array(next(iter(request.infer((ids, attended)).values())))
        finally:
            self._requests.put(request)


@compute.owned
def _traced(openvino: Any, checkpoint: Checkpoint) -> Any:
    """Return the network as an OpenVINO model in float32, from the cache, or traced and then cached."""
    folder = cache_folder() / "encoders" / f"{checkpoint.hash}-v{_CONVERSION}-{openvino.__version__.split('-')[0]}"
    if folder.is_dir():
        try:
            return openvino.Core().read_model(folder / "model.xml")
        except RuntimeError:
            logger.warning(f"  {folder} {_fault(folder)}; traced again")
    example = torch.ones(2, 8, dtype=torch.long)
    padded = example.clone()
    padded[1, 4:] = 0  # without padding, the tracer would record a shortcut for that case
    with quiet(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, about branches that do not depend on the input here
        model = openvino.convert_model(checkpoint.network.cpu().eval(), example_input=(example, padded))
    try:
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            openvino.save_model(model, temporary / "model.xml", compress_to_fp16=False)
    except OSError as error:
        logger.warning(f"  the compiled encoder cannot be cached: {error}")
        return model
    # A traced network rounds differently from the same one read back, and the first use must equal all later ones.
    return openvino.Core().read_model(folder / "model.xml")


def _fault(folder: Path) -> str:
    """Return what is wrong with a network that OpenVINO cannot read, since OpenVINO does not say."""
    try:
        probe(folder)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "is damaged"
