"""Specifications of engines for tests: on the processor, in a named precision."""

from pathlib import Path
from typing import Literal

from exsearch.config import ModelConfig
from exsearch.engine.spec import EngineSpec


def spec(
    folder: Path,
    seats: int = 64,
    *,
    context: int = 4096,
    precision: Literal["bf16", "fp32"] = "fp32",
    device: str = "cpu",
    adapter: Path | None = None,
) -> EngineSpec:
    """Return what a local engine is made of, under a fingerprint of its own."""
    model = ModelConfig(device=device, precision=precision, adapter=str(adapter or ""))
    return EngineSpec(folder, model, context, seats, fingerprint=f"{folder} {adapter}")


def endpoint_spec(
    url: str, name: str, seats: int = 4, *, api: Literal["completions", "chat"] = "completions", **more: object
) -> EngineSpec:
    """Return what an engine behind an endpoint is made of, with a context of 1024 tokens."""
    model = ModelConfig(engine="openai", url=url, name=name, api=api, **more)  # type: ignore[arg-type]
    return EngineSpec(Path(), model, 1024, seats)
