"""LoRA adapters: whether one fits the model that it is put on, of whose weights only the headers are read."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from exsearch.core.checkpoint import explained, quiet, refuse_misfits
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json
from exsearch.engine.checkpoint import causal_class, load_config

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
Shapes = dict[str, tuple[int, ...]]

_PLAIN = {
    *("r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("lora_dropout", "init_lora_weights", "runtime_config", "megatron_core", "megatron_config", "inference_mode"),
    *("peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
}
"""Settings that change nothing which an engine other than PEFT computes, or that such an engine heeds."""
_SAME_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base model's own weights as they are."""


def require_adapter_folder(adapter: Path) -> None:
    """Raise UsageError if the folder holds no adapter."""
    if not (adapter / SETTINGS).is_file():
        raise UsageError(f"model.adapter: {adapter} is not an adapter folder, it has no {SETTINGS}")


def check_adapter(adapter: Path, base: Path, merged: bool = True) -> int:
    """Return the rank of the LoRA adapter in the folder `adapter`; raise UsageError unless all of it fits `base`.

    Every weight in its file has a place in the model, of the same shape; every layer that its settings name is in the
    model and has its weights. `merged` says that PEFT puts the adapter into the model's own weights; an engine that
    does not knows less than PEFT can do, and would leave the rest out.
    """
    require_adapter_folder(adapter)
    settings = read_json(adapter / SETTINGS, dict[str, Any])
    if settings.get("peft_type") != "LORA":
        raise UsageError(f"{adapter}: an adapter of kind {settings.get('peft_type')}; only those of kind LORA are read")
    if not merged:
        _refuse_unknown_to_others(adapter, settings)
    held = _shapes(adapter)
    wanted, tuned = _wanted(adapter, base)
    own = settings.get("base_model_name_or_path")
    refuse_misfits(
        f"{adapter}: the adapter does not fit the model {base}",
        _misfits(held, wanted, tuned, merged),
        f"put it on the model that it was trained on{f' ({own})' if own else ''}, or save it again",
    )
    _refuse_no_numbers(adapter)
    return int(settings["r"])


def _refuse_unknown_to_others(adapter: Path, settings: dict[str, Any]) -> None:
    from peft import LoraConfig

    plain = LoraConfig().to_dict()
    used = [name for name, value in settings.items() if name not in _PLAIN and value and value != plain.get(name)]
    if settings.get("init_lora_weights", True) not in _SAME_BASE:
        used.append("init_lora_weights")
    if used:
        raise UsageError(
            f"{adapter}: {', '.join(sorted(used))} in its {SETTINGS} would be left out by this engine; "
            "say model.engine = transformers, or merge the adapter into the model"
        )


def _shapes(adapter: Path) -> Shapes:
    """Return the shapes of the adapter's weights by their names."""
    path = adapter / WEIGHTS
    if not path.is_file():
        raise UsageError(f"{adapter}: an adapter without {WEIGHTS}; weights in other files are not read")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        raise UsageError(f"{path}: damaged; fetch or save it again") from None


def _refuse_no_numbers(adapter: Path) -> None:
    """Raise UsageError for weights that a training which went astray has left: the model would say nothing at all."""
    with safe_open(adapter / WEIGHTS, framework="pt") as file:
        wrong = {name for name in file.keys() if not file.get_tensor(name).isfinite().all()}  # noqa: SIM118
    refuse_misfits(
        f"{adapter}: weights of the adapter are not finite",
        {"infinite or no numbers": wrong},
        "take one of an earlier step",
    )


def _wanted(adapter: Path, base: Path) -> tuple[Shapes, Any]:
    """Return what PEFT would save of such an adapter on the model, and the model with it, without memory for either."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with explained(base), torch.device("meta"):
            kind = causal_class(base)
            make = kind.from_config if hasattr(kind, "from_config") else kind._from_config
            model = make(load_config(base))
        try:
            settings = LoraConfig.from_pretrained(str(adapter))
            settings.init_lora_weights = False  # some ways to start compute with the model's weights
            tuned = get_peft_model(model, settings)
        except (TypeError, ValueError, re.error) as error:  # the last one of a pattern
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"{adapter}: its {SETTINGS} does not fit the model {base}: {reason}") from None
        weights = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    _refuse_absent_targets(adapter, base, tuned)
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}, tuned


def _refuse_absent_targets(adapter: Path, base: Path, tuned: Any) -> None:
    """Raise UsageError for layers that the settings list and the model lacks; to PEFT one that it has is enough."""
    settings, layers = tuned.peft_config["default"], tuned.base_model
    numbers = {part for name in layers.targeted_module_names for part in name.split(".")}
    numbered = settings.layers_to_transform
    wanted = [numbered] if isinstance(numbered, int) else numbered or []
    named = {
        "target_modules": (settings.target_modules, layers.targeted_module_names),
        "layers_to_transform": (map(str, wanted), numbers),
        "target_parameters": (settings.target_parameters, layers.targeted_parameter_names),
        "modules_to_save": (settings.modules_to_save, [name for name, _ in layers.model.named_modules()]),
    }
    for key, (targets, found) in named.items():
        absent = {target for target in _listed(targets) if not any(f".{name}".endswith(f".{target}") for name in found)}
        refuse_misfits(
            f"{adapter}: the model {base} lacks layers that {key} in {SETTINGS} lists",
            {"absent": absent},
            "put the adapter on the model that it was trained on, or take these names out",
        )


def _listed(targets: str | Iterable[str] | None) -> list[str]:
    """Return the names in a list of targets; a pattern, which PEFT refuses if it meets nothing, lists none."""
    return [] if targets is None or isinstance(targets, str) else list(targets)


def _misfits(held: Shapes, wanted: Shapes, tuned: Any, merged: bool) -> dict[str, set[str]]:
    """Return the names of the weights that do not fit, by what is wrong with them."""
    missing, unknown = wanted.keys() - held.keys(), held.keys() - wanted.keys()
    if missing or unknown:
        missing, unknown = _misfits_of_loading(held, tuned) or (missing, unknown)
    if not merged:
        unknown |= {name for name in held.keys() - wanted.keys() if "lora_" not in name}
    resized = {
        f"{name} is {list(held[name])}, not {list(shape)}"
        for name, shape in wanted.items()
        if held.get(name, shape) != shape
    }
    return {"missing": missing, "unknown to the model": unknown, "of another size": resized}


def _misfits_of_loading(held: Shapes, tuned: Any) -> tuple[set[str], set[str]] | None:
    """Return what PEFT itself misses and does not know, None if it cannot load the weights at all.

    It reads names of older versions, too: of experts one by one, and of embeddings that were trained on.
    """
    from peft import set_peft_model_state_dict

    try:
        result: Any = set_peft_model_state_dict(
            tuned, {name: torch.empty(shape, device="meta") for name, shape in held.items()}
        )
    except (KeyError, RuntimeError, ValueError):
        return None
    missing = {name.replace(".default", "") for name in result.missing_keys if ".default" in name}
    return missing, set(result.unexpected_keys)
