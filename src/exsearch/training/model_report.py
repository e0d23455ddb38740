"""Report on a model before it is used: how it is computed, its context, and its chat format."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from exsearch.agent.chat import ChatFormat
from exsearch.config import Config
from exsearch.core.errors import UsageError
from exsearch.engine.hf.paths import engine_verdict
from exsearch.engine.models.builtin import model_fingerprint
from exsearch.engine.models.checkpoint import load_model
from exsearch.engine.models.limits import UNLIMITED, context_limit, steady_limit, windows_of
from exsearch.engine.models.noise import without_noise
from exsearch.engine.models.probe import ModelVerdict
from exsearch.hardware.devices import pick_device, pick_dtype
from exsearch.processes import compute
from exsearch.training.learners.adapters import adapted_by
from exsearch.training.packing.ways import trainer_verdict


@dataclass(frozen=True)
class ModelReport:
    """Findings by name, in the order in which to read them."""

    lines: dict[str, str]
    refused: list[str]
    """Why the model cannot be used, if so."""


@compute.owned
def report_on(folder: Path, config: Config) -> ModelReport:
    """Load a model, twice if the engine's precision differs from the trainer's, and examine it. Raises UsageError."""
    dtype, device = pick_dtype(config.model), pick_device(config.model)
    model = _loaded(folder, dtype, device)
    windows = ", ".join(map(str, windows_of(model)))
    lines = {
        "model": f"{folder}",
        "kind": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()) / 1e6:,.0f} million parameters",
        "context": _context(model, config.agent.context),
        "windows": f"some layers see the last {windows} tokens" if windows else "none: all layers see all tokens",
    }
    verdicts = {"engine": engine_verdict(model, model_fingerprint(folder), device)}
    if dtype != torch.float32:
        del model
        model = _loaded(folder, torch.float32, device)
    without_noise(model)
    verdicts["trainer"] = trainer_verdict(model, folder, config.learn, device)
    lines |= {part: _told(verdict) for part, verdict in verdicts.items()}
    refused = [f"the {part}: {lines[part]}" for part, verdict in verdicts.items() if not verdict.path]
    try:
        adapted = adapted_by(model)
        counts = ", ".join(f"{name} ({count})" for name, count in Counter(adapted.layers).most_common())
        lines["adapters"] = f"{counts}: {adapted.share:.0%} of the weights outside the embeddings"
    except UsageError as error:
        lines["adapters"] = f"none: {error}"
    try:
        chat = ChatFormat.load(folder, config.agent)
        own = "the model's own" if chat.tokenizer.chat_template else "ExSearch's plain one, since the model has none"
        lines["template"] = f"{own}: {chat.tokenizer.decode(chat.first_prompt('...'))!r}"
        lines["stop tokens"] = ", ".join(map(str, chat.tokenizer.convert_ids_to_tokens(chat.stop_ids)))
        lines["date"] = _date(chat)
        lines["thinking"] = _thinking(chat)
    except UsageError as error:
        lines["template"] = f"refused: {error}"
        refused.append(f"the template: {error}")
    return ModelReport(lines, refused)


def _loaded(folder: Path, dtype: torch.dtype, device: str) -> PreTrainedModel:
    model = load_model(folder, dtype)
    model.eval()
    torch.nn.Module.to(model, device)
    return model


def _context(model: PreTrainedModel, configured: int) -> str:
    maximum = context_limit(model.config)
    limit = steady_limit(model.config)
    text = "as long as memory allows" if maximum == UNLIMITED else f"at most {maximum:,} tokens"
    if limit is not None and limit.tokens == maximum:
        text += f", beyond which {limit.reason} depend on the length"
    return f"{text}; agent.context is {configured:,}"


def _date(chat: ChatFormat) -> str:
    if not chat.template.tells_the_date:
        return "none in the template"
    return f"the template gets {chat.agent.date} as today's date (agent.date)"


def _thinking(chat: ChatFormat) -> str:
    begun = "a prompt begins a thought" if chat.begins_thought else "a prompt begins no thought"
    switch = "agent.thinking switches it" if chat.template.has_switch else "the template has no switch for it"
    return f"{chat.agent.thinking}: {begun}; {switch}"


def _told(verdict: ModelVerdict) -> str:
    why = "; ".join(f"not {path}: {reason}" for path, reason in verdict.rejected.items())
    if not verdict.path or verdict.difference is None:
        return f"refused. {why}"
    apart = f"within {verdict.difference:.1e} nats of transformers' own log-probs ({verdict.tolerance:g} allowed)"
    return f"{verdict.path}, {apart}" + (f"; {why}" if why else "")
