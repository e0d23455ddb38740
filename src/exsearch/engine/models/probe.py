"""Checks on every load that ExSearch computes a model correctly, by comparison with its plain forward pass.

The probe is a text of random tokens, longer than the model's windows, which are narrowed if they are long. It goes
through the engine as conversations do: two seats with a common beginning and an idle third one, a prefix that is
continued twice, tokens scored after each. The first path whose log-probs all equal those of the plain forward pass is
used; if there is none, the model is refused.
"""

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import numpy as np
import torch
from filelock import FileLock
from transformers import PreTrainedConfig, PreTrainedModel

from exsearch.core.atomic import make_folder
from exsearch.core.cache import cache_folder
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.tokens import TokenIds
from exsearch.engine.models.limits import context_limit, narrowed, windows_of
from exsearch.hardware.memory import give_back_memory, is_out_of_memory

TOLERANCE = 1e-4
"""Maximum difference, in nats, of any log-prob from the plain forward pass in float32."""
ROUGH_TOLERANCE = 0.3
"""Maximum mean difference, in nats, if weights or arithmetic have fewer bits; rounding makes tenths of a nat for some
tokens."""
LENGTH = 56
"""Number of tokens of the probe."""
_WINDOW = 24
"""Size to which longer windows are narrowed."""
_LONGEST_WINDOW = 160
"""Windows up to this size are exceeded by the probe without narrowing."""
_ROUNDED = (torch.bfloat16, torch.float16)
_LARGE = 8 << 30
"""Maximum size of weights, in bytes, for which main memory is assumed to have room for float32 as well, for a second.
"""
T = TypeVar("T")
PathName = TypeVar("PathName", bound=str)


class ModelVerdict(msgspec.Struct, frozen=True):
    """Which path a model takes, and why."""

    path: str
    """The first path that is right; "" if none is."""
    difference: float | None
    """Difference of its log-probs from the plain forward pass, in nats (see `distance`); that of the best path if none
    is right, None if unknown."""
    tolerance: float
    rejected: dict[str, str] = {}
    """For the paths tried before, what is wrong with each."""


def is_exact(model: PreTrainedModel) -> bool:
    """Return whether a model computes in float32 throughout."""
    return model.dtype == torch.float32 and not getattr(model, "is_quantized", False)


def tolerance_of(model: PreTrainedModel) -> float:
    """Return the allowed difference of log-probs from the plain forward pass in nats; see `distance`."""
    return TOLERANCE if is_exact(model) else ROUGH_TOLERANCE


def distance(model: PreTrainedModel, logprobs: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the difference of log-probs: the maximum, or the mean if rounding makes large single differences."""
    apart = (logprobs - expected).abs()
    if not apart.isfinite().all():
        return float("inf")
    return float(apart.max() if is_exact(model) else apart.mean())


def probe_tokens(model: PreTrainedModel) -> TokenIds:
    """Return the text to compare: random ordinary tokens, at most as many as the model can take."""
    config = model.config.get_text_config(decoder=True)
    special = set(_special_ids(model.config)) | set(_special_ids(config))
    token = torch.ones(1, 1, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        spoken = model(input_ids=token, use_cache=False).logits.shape[
            -1
        ]  # it may read more tokens than it can generate
    ordinary = np.array([token for token in range(min(spoken, 4096)) if token not in special])
    window = max((one for one in windows_of(model) if one <= _LONGEST_WINDOW), default=0)
    length = min(LENGTH + window, context_limit(model.config))
    tokens: TokenIds = np.random.default_rng(0).choice(ordinary, length).tolist()
    return tokens


def _special_ids(config: PreTrainedConfig) -> Iterator[int]:
    for name, value in config.to_dict().items():
        if name.endswith(("_token_id", "_token_index", "_token_ids")):
            yield from value if isinstance(value, list) else [value] if isinstance(value, int) else []


@contextmanager
def seen_through(model: PreTrainedModel) -> Iterator[None]:
    """Narrow a model's windows for a probe, if they are longer than it."""
    narrow = max(windows_of(model), default=0) > _LONGEST_WINDOW
    with narrowed(model, _WINDOW) if narrow else narrowed(model, max(windows_of(model), default=0)):
        yield


@contextmanager
def in_float32(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute in float32 while the context lasts, so that rounding does not hide other differences.

    Numbers with fewer bits are exact in float32, and unchanged when converted back. Raises MemoryError, or torch's
    error, if there is not enough memory.
    """
    rounded = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype in _ROUNDED]
    dtypes = [tensor.dtype for tensor in rounded]
    if model.device.type == "cpu" and sum(tensor.nbytes for tensor in rounded) > _LARGE:
        raise MemoryError("float32 might not fit into main memory, where running out is not reported")
    exact_products = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = False
        for tensor in rounded:
            tensor.data = tensor.data.float()
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = exact_products
        for tensor, dtype in zip(rounded, dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)
        give_back_memory()


@torch.inference_mode()
def plain_logprobs(model: PreTrainedModel, ids: TokenIds) -> torch.Tensor:
    """Return the log-prob of each token but the first, by the model's own forward pass without memory; on the CPU."""
    row = torch.tensor([ids], device=next(model.parameters()).device)
    logits: torch.Tensor = model(input_ids=row, use_cache=False).logits[0, :-1].float()
    return logits.log_softmax(dim=-1).gather(1, row[0, 1:, None])[:, 0].cpu()


def judge(paths: Sequence[PathName], tolerance: float, difference: Callable[[PathName], float]) -> ModelVerdict:
    """Return the first path whose largest difference from the plain forward pass is within the tolerance."""
    rejected: dict[str, str] = {}
    best = float("inf")
    for path in paths:
        try:
            largest = difference(path)
        except Exception as error:  # a model's code may raise anything; this path does not work for it
            if is_out_of_memory(error):  # not a property of the model, and verdicts are cached
                raise
            rejected[path] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            continue
        if largest <= tolerance:
            return ModelVerdict(path, largest, tolerance, rejected)
        rejected[path] = f"log-probs differ by {largest:.2g} from the plain forward pass"
        best = min(best, largest)
    return ModelVerdict("", best if best < float("inf") else None, tolerance, rejected)


def remembered(part: Literal["engine", "trainer"], identity: object, make: Callable[[], ModelVerdict]) -> ModelVerdict:
    """Return the verdict on a model of this identity, computed once per version of ExSearch, torch and transformers.

    Others that ask for it at the same time wait.
    """
    versions = [importlib.metadata.version(name) for name in ("torch", "transformers", "peft")]
    key = fingerprint([part, identity, versions, _code()])
    file = cache_folder() / "probes" / f"{key}.json"
    make_folder(file.parent)
    with FileLock(file.with_suffix(".lock")):
        if file.is_file():
            return read_json(file, ModelVerdict)
        verdict = make()
        write_json(file, verdict)
    return verdict


def require_path(verdict: ModelVerdict, what: str) -> str:
    """Return the path of a verdict. Raises UsageError if there is none."""
    if verdict.path:
        return verdict.path
    if verdict.difference is not None:
        reason = (
            f"log-probs differ by {verdict.difference:.2g} nats from transformers' own, {verdict.tolerance:g} allowed"
        )
    else:
        reason = "; ".join(f"{path}: {why}" for path, why in verdict.rejected.items())
    raise UsageError(f"{what} cannot compute this model: {reason}")


def _code() -> str:
    """Return a fingerprint of the code that is judged."""
    package = Path(__file__).parents[1]
    parts = [package / "engine", package / "hardware", package / "training"]
    return fingerprint([path.read_text(encoding="utf-8") for part in parts for path in sorted(part.rglob("*.py"))])
