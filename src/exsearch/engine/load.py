"""Loads the engine that the settings name."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from transformers import PreTrainedConfig

from exsearch.config import ModelConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.registry import Registry
from exsearch.engine.base import Engine
from exsearch.engine.conversation import Conversation
from exsearch.engine.copies.engine import CopiedEngine
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.models.adapter import SETTINGS, require_adapter_folder
from exsearch.engine.models.builtin import model_fingerprint
from exsearch.engine.models.checkpoint import load_config
from exsearch.engine.models.limits import made_for, steady_limit
from exsearch.engine.spec import EngineSpec
from exsearch.hardware.memory import is_out_of_memory

_LARGE, _SMALL = 1 << 30, 1 << 26
"""Range of a checkpoint's weights, in bytes, in which copies may pay off: a smaller model is done before they start."""
_PROCESSORS_EACH, _AMX_PROCESSORS_EACH = 1, 4
_MAXIMUM_COPIES = 8
_MEMORY_SHARE = 4
"""Copies may use a fourth of the machine's memory for their weights."""
_ENGINE = f"Engine ({Engine.__module__})"
_MEMBERS = {name for name in (*Engine.__annotations__, *vars(Engine)) if not name.startswith("_")}


def load_engine(spec: EngineSpec, chat: Conversation) -> Engine:
    """Load a model into the engine that its settings name. Raises UsageError."""
    name = spec.model.engine
    load = ENGINES.ours_or_own(name)
    if not callable(load):
        raise UsageError(f"model.engine = {name}: not a function of (spec, chat) that returns an {_ENGINE}")
    engine: Engine = load(spec, chat)
    if lacking := sorted(_MEMBERS - set(dir(engine))):
        raise UsageError(f"model.engine = {name}: what it returns lacks {', '.join(lacking)} of an {_ENGINE}")
    return engine


def _transformers(spec: EngineSpec, chat: Conversation) -> Engine:
    """Refuses a context in which the model would contradict itself: see `steady_limit`."""
    spec = _identified(spec)
    require_steady(load_config(spec.folder), spec.context)
    wanted = spec.model.data_parallel or faster_copies(spec.folder, spec.device)
    if (copies := min(wanted, spec.seats)) > 1:
        return CopiedEngine(spec, copies)
    try:
        return HFEngine.load(spec)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ExSearchError(
            f"{spec.folder}: out of memory while loading the model on {spec.device}; free memory there, or use a "
            "smaller model"
        ) from error


def _vllm(spec: EngineSpec, chat: Conversation) -> Engine:
    from exsearch.engine.vllm.engine import VLLMEngine

    return VLLMEngine(_identified(spec))


def _endpoint(spec: EngineSpec, chat: Conversation) -> Engine:
    from exsearch.engine.openai.engine import OpenAIEngine

    if spec.adapter is not None:
        raise UsageError("model.adapter is for the engines transformers and vllm; an endpoint has its own")
    if not spec.model.url or not spec.model.name:
        raise UsageError("model.engine = openai needs model.url, such as http://127.0.0.1:8000/v1, and model.name")
    return OpenAIEngine(spec, chat)


ENGINES = Registry[Callable[[EngineSpec, Conversation], Engine]](
    "engine", {"transformers": _transformers, "vllm": _vllm, "openai": _endpoint}, setting="model.engine"
)


def _identified(spec: EngineSpec) -> EngineSpec:
    """Return the specification with the fingerprint of its weights. Raises UsageError if a folder has none."""
    identity = model_fingerprint(spec.folder)
    if spec.adapter is not None:
        require_adapter_folder(spec.adapter)
        identity = fingerprint([identity, adapter_fingerprint(spec.model)])
    return msgspec.structs.replace(spec, fingerprint=identity)


def adapter_fingerprint(config: ModelConfig) -> str:
    """Return a fingerprint of the content of the adapter that the settings name; empty without an adapter."""
    return model_fingerprint(Path(config.adapter), SETTINGS) if config.adapter else ""


def require_steady(model: PreTrainedConfig, context: int) -> None:
    """Raise UsageError if a model's log-probs would be inconsistent in conversations of `context` tokens."""
    limit = steady_limit(model)
    if limit is not None and limit.tokens < min(context, made_for(model)):
        raise UsageError(
            f"agent.context = {context}: beyond {limit.tokens} tokens {limit.reason} depend on the length of a "
            f"conversation, so that its log-probs would depend on what follows; set agent.context = {limit.tokens}"
        )


def faster_copies(folder: Path, device: str) -> int:
    """Return the number of copies of a model that are faster together than one copy with all processors.

    Twice the processors make one copy less than twice as fast, since it waits for the slowest at the end of each small
    operation. On two cores, a whole `exsearch explore` of 64 trajectories by SmolLM2-135M took 0.84 of the time with
    two copies, including their start. With AMX, such operations are too small a part of a pass: a second copy gained a
    tenth on two cores, which its start takes back, so each copy gets four. In large models they are few, and copies
    need memory.
    """
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if device != "cpu" or not _SMALL <= weights <= _LARGE:
        return 1
    amx = torch.cpu.get_capabilities().get("amx_bf16", False)
    by_processors = torch.get_num_threads() // (_AMX_PROCESSORS_EACH if amx else _PROCESSORS_EACH)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    by_memory = memory // (_MEMORY_SHARE * 2 * weights)  # bfloat16 weights, computed in float32
    return max(min(by_processors, by_memory, _MAXIMUM_COPIES), 1)
