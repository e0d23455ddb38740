"""LoRA adapters: checks whether one fits its model, reading only the headers of the model's weights."""

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
from exsearch.engine.models.checkpoint import causal_class, load_config

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
Shapes = dict[str, tuple[int, ...]]

_PLAIN = {
    *("r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("lora_dropout", "init_lora_weights", "runtime_config", "megatron_core", "megatron_config", "inference_mode"),
    *("peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
}
"""Settings without effect on engines other than PEFT, or that these engines respect."""
_SAME_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that do not change the base model's weights."""


def require_adapter_folder(adapter: Path) -> None:
    """Raise UsageError if the folder has no adapter."""
    if not (adapter / SETTINGS).is_file():
        raise UsageError(f"model.adapter: {adapter} is not an adapter folder, it has no {SETTINGS}")


def check_adapter(adapter: Path, base: Path, merged: bool = True) -> int:
    """Return the rank of the LoRA adapter in the folder `adapter`. Raises UsageError unless all of it fits `base`.

    Every weight in its file must have a place in the model, with the same shape; every layer that its settings name
    must be in the model and have weights. `merged` says that PEFT merges the adapter into the model's weights; other
    engines support less than PEFT, and would ignore the rest.
    """
    require_adapter_folder(adapter)
    settings = read_json(adapter / SETTINGS, dict[str, Any])
    if settings.get("peft_type") != "LORA":
        raise UsageError(f"{adapter}: an adapter of kind {settings.get('peft_type')}; only those of kind LORA are read")
    if settings.get("lora_alpha") == 0:
        raise UsageError(f"{adapter}: lora_alpha is 0 in its {SETTINGS}, so the adapter changes nothing; set its value")
    if not merged:
        _refuse_unknown_to_others(adapter, settings)
    own_shapes = _shapes(adapter)
    expected, tuned = _wanted(adapter, base)
    own = settings.get("base_model_name_or_path")
    refuse_misfits(
        f"{adapter}: the adapter does not fit the model {base}",
        _misfits(own_shapes, expected, tuned, merged),
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
            f"{adapter}: {', '.join(sorted(used))} in its {SETTINGS} would be ignored by this engine; "
            "set model.engine = transformers, or merge the adapter into the model"
        )


def _shapes(adapter: Path) -> Shapes:
    """Return the shapes of the adapter's weights by name."""
    path = adapter / WEIGHTS
    if not path.is_file():
        raise UsageError(f"{adapter}: an adapter without {WEIGHTS}; weights in other files are not read")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        raise UsageError(f"{path}: damaged; download or save it again") from None


def _refuse_no_numbers(adapter: Path) -> None:
    """Raise UsageError for weights that are not finite, as after a diverged training: the output would be garbage."""
    with safe_open(adapter / WEIGHTS, framework="pt") as file:
        wrong = {name for name in file.keys() if not file.get_tensor(name).isfinite().all()}  # noqa: SIM118
    refuse_misfits(
        f"{adapter}: weights of the adapter are not finite",
        {"infinite or not a number": wrong},
        "use one of an earlier step",
    )


def _wanted(adapter: Path, base: Path) -> tuple[Shapes, Any]:
    """Return the weights that PEFT would save for such an adapter on the model, and that model, without memory for
    them."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with explained(base), torch.device("meta"):
            kind = causal_class(base)
            make = kind.from_config if hasattr(kind, "from_config") else kind._from_config
            model = make(load_config(base))
        try:
            settings = LoraConfig.from_pretrained(str(adapter))
            settings.init_lora_weights = False  # some initialisations compute with the model's weights
            tuned = get_peft_model(model, settings)
        except (TypeError, ValueError, re.error) as error:  # re.error for a pattern
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"{adapter}: its {SETTINGS} does not fit the model {base}: {reason}") from None
        weights = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    _refuse_absent_targets(adapter, base, tuned)
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}, tuned


def _refuse_absent_targets(adapter: Path, base: Path, tuned: Any) -> None:
    """Raise UsageError for layers that the settings list but the model lacks; PEFT accepts the list if one matches."""
    settings, layers = tuned.peft_config["default"], tuned.base_model
    numbers = {part for name in layers.targeted_module_names for part in name.split(".")}
    numbered = settings.layers_to_transform
    layer_numbers = [numbered] if isinstance(numbered, int) else numbered or []
    lists = {
        "target_modules": (settings.target_modules, layers.targeted_module_names),
        "layers_to_transform": (map(str, layer_numbers), numbers),
        "target_parameters": (settings.target_parameters, layers.targeted_parameter_names),
        "modules_to_save": (settings.modules_to_save, [name for name, _ in layers.model.named_modules()]),
    }
    for key, (targets, matched) in lists.items():
        absent = {
            target for target in _listed(targets) if not any(f".{name}".endswith(f".{target}") for name in matched)
        }
        refuse_misfits(
            f"{adapter}: the model {base} lacks layers that {key} in {SETTINGS} lists",
            {"absent": absent},
            "use the adapter with the model that it was trained on, or remove these names",
        )


def _listed(targets: str | Iterable[str] | None) -> list[str]:
    """Return the names in a list of targets; a pattern, which PEFT refuses if nothing matches, lists none."""
    return [] if targets is None or isinstance(targets, str) else list(targets)


def _misfits(own_shapes: Shapes, expected: Shapes, tuned: Any, merged: bool) -> dict[str, set[str]]:
    """Return the names of the weights that do not fit, by what is wrong."""
    missing, unknown = expected.keys() - own_shapes.keys(), own_shapes.keys() - expected.keys()
    if missing or unknown:
        missing, unknown = _misfits_of_loading(own_shapes, tuned) or (missing, unknown)
    if not merged:
        unknown |= {name for name in own_shapes.keys() - expected.keys() if "lora_" not in name}
    resized = {
        f"{name} is {list(own_shapes[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if own_shapes.get(name, shape) != shape
    }
    return {"missing": missing, "unknown to the model": unknown, "of another size": resized}


def _misfits_of_loading(own_shapes: Shapes, tuned: Any) -> tuple[set[str], set[str]] | None:
    """Return the weights that PEFT itself reports as missing and as unknown; None if it cannot load the weights at all.

    PEFT also reads names of older versions: of single experts, and of trained embeddings.
    """
    from peft import set_peft_model_state_dict

    try:
        result: Any = set_peft_model_state_dict(
            tuned, {name: torch.empty(shape, device="meta") for name, shape in own_shapes.items()}
        )
    except (KeyError, RuntimeError, ValueError):
        return None
    missing = {name.replace(".default", "") for name in result.missing_keys if ".default" in name}
    return missing, set(result.unexpected_keys)
