"""Loads the engine that the settings name."""

import os
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedConfig

from exsearch.config import ModelConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.tokens import TokenIds
from exsearch.engine.adapter import SETTINGS, require_adapter_folder
from exsearch.engine.base import Engine
from exsearch.engine.builtin import model_fingerprint
from exsearch.engine.checkpoint import load_config
from exsearch.engine.copies import CopiedEngine
from exsearch.engine.hf import HFEngine
from exsearch.engine.limits import made_for, steady_limit
from exsearch.hardware.devices import pick_device, pick_dtype
from exsearch.hardware.memory import is_out_of_memory
from exsearch.network.api_key import read_api_key

_LARGE, _SMALL = 1 << 30, 1 << 26
"""Range of a checkpoint's weights, in bytes, in which copies may pay off: a smaller model is done before they start."""
_PROCESSORS_EACH, _AMX_PROCESSORS_EACH = 1, 4
_MAXIMUM_COPIES = 8
_MEMORY_SHARE = 4
"""Copies may use a fourth of the machine's memory for their weights."""


class Conversation(Protocol):
    """What a text-based endpoint needs to convert token ids."""

    def encode_said(self, text: str) -> TokenIds:
        """Return the token ids of a text by the model."""
        ...

    def decode(self, ids: TokenIds) -> str:
        """Return the text of token ids."""
        ...

    def encode_turn(self, text: str) -> TokenIds:
        """Return the token ids of a turn of the model with this text, without the stop token."""
        ...

    def decode_turn(self, ids: TokenIds) -> str:
        """Return the model's text in a turn."""
        ...

    def messages(self, ids: TokenIds) -> list[dict[str, str]]:
        """Return the conversation with these token ids."""
        ...


def load_engine(
    folder: Path, config: ModelConfig, chat: Conversation, context: int, seats: int, thinking: bool | None = None
) -> Engine:
    """Load a checkpoint folder into the engine that the settings name. Raises UsageError.

    The transformers engine refuses a context in which the model would contradict itself: see `steady_limit`.

    `context` limits a conversation's tokens, and `seats` the number of conversations at the same time; together, they
    limit the memory. `thinking` is for an endpoint that writes the prompts itself: whether its model may think; None
    leaves its default.
    """
    adapter = Path(config.adapter) if config.adapter else None
    if adapter is not None:
        if config.engine == "openai":
            raise UsageError("model.adapter is for the engines transformers and vllm; an endpoint has its own")
        require_adapter_folder(adapter)
    identity = model_fingerprint(folder)
    if adapter is not None:
        identity = fingerprint([identity, adapter_fingerprint(config)])
    if config.engine == "vllm":
        from exsearch.engine.vllm import VLLMEngine

        name = str(pick_dtype(config)).removeprefix("torch.")
        copies = config.data_parallel or 1
        return VLLMEngine(folder, identity, name, context, seats, config.tensor_parallel, copies, adapter)
    if config.engine == "openai":
        return _endpoint(config, chat, context, seats, thinking)
    require_steady(load_config(folder), context)
    dtype, device = pick_dtype(config), pick_device(config)
    if (copies := min(config.data_parallel or faster_copies(folder, device), seats)) > 1:
        return CopiedEngine(folder, identity, dtype, device, seats, copies, adapter)
    try:
        return HFEngine.load(folder, identity, dtype, device, seats, adapter)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ExSearchError(
            f"{folder}: out of memory while loading the model on {device}; free memory there, or use a smaller model"
        ) from error


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


def _endpoint(config: ModelConfig, chat: Conversation, context: int, seats: int, thinking: bool | None) -> Engine:
    from exsearch.engine.openai import OpenAIEngine

    if not config.url or not config.name:
        raise UsageError("model.engine = openai needs model.url, such as http://127.0.0.1:8000/v1, and model.name")
    key = read_api_key(Path(config.api_key_file)) if config.api_key_file else None
    turns = config.api == "chat"
    return OpenAIEngine(
        config.url,
        config.name,
        config.api,
        key,
        context,
        seats,
        chat.encode_turn if turns else chat.encode_said,
        chat.decode_turn if turns else chat.decode,
        chat.messages,
        config.retokenise,
        thinking=thinking if turns else None,
    )
