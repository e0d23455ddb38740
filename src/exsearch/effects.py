"""What each setting changes, so that a run can be resumed with other settings if those do not change its results.

A new setting of `config/sections.py` gets its place here; a test names those that have none.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from exsearch.config import Config

Effect = Literal["result", "content", "memory", "speed", "place", "waiting", "display"]
"""`result`: changes what a run computes. `content`: names a file or a model whose content changes results; the name
itself changes nothing. The others change no result: the memory a run needs, how fast it is, where it runs, how long it
waits for an answer, and how it is shown."""

_TRAINING: dict[str, Effect] = {
    "epochs": "result",
    "batch_size": "result",
    "micro_batch_tokens": "memory",
    "gradient_checkpointing": "memory",
    "normalise": "result",
    "denominator": "result",
    "learning_rate": "result",
    "warmup_ratio": "result",
    "schedule": "result",
    "weight_decay": "result",
    "max_grad_norm": "result",
    "search_loss": "result",
    "answer_loss": "result",
    "kl": "result",
    "lora_rank": "result",
    "quantise": "result",
    "frozen_layers": "result",
    "keep_float32": "result",
    "save_steps": "speed",
    "validation_share": "result",
    "ranks": "place",
    "sharding": "memory",
    "deepspeed": "content",
}
_SECTIONS: dict[str, dict[str, Effect]] = {
    "model": {
        "path": "content",
        "device": "place",
        "precision": "content",
        "engine": "result",
        "adapter": "content",
        "tensor_parallel": "memory",
        "data_parallel": "speed",
        "url": "place",
        "name": "result",
        "api": "result",
        "api_key_file": "place",
        "retokenise": "result",
    },
    "data": {
        "index": "content",
        "record": "place",
        "warmup": "content",
        "train": "content",
        "dev": "content",
        "test": "content",
        "guard": "content",
        "train_limit": "content",
        "dev_limit": "content",
        "test_limit": "content",
    },
    "agent": {
        "grammar": "result",
        "prompt": "result",
        "max_steps": "result",
        "passages": "result",
        "repeated": "result",
        "passage_tokens": "result",
        "turn_tokens": "result",
        "context": "result",
        "date": "result",
        "thinking": "result",
    },
    "rollout": {
        "in_flight": "memory",
        "turn_seconds": "waiting",
        "search_seconds": "waiting",
        "search_retries": "waiting",
        "trajectory_seconds": "waiting",
        "ray": "place",
        "workers": "speed",
    },
    "warmup": _TRAINING | {"questions": "result", "gold": "result", "facts": "result", "opening": "result"},
    "explore": {
        "questions": "result",
        "samples": "result",
        "temperature": "result",
        "top_p": "result",
        "first_samples": "result",
        "settled": "result",
        "score_opening": "result",
        "score_steps": "result",
        "branches": "result",
        "branch_gain": "result",
    },
    "weigh": {
        "weighting": "result",
        "temperature": "result",
        "target_ess": "result",
        "alias": "result",
        "gate": "result",
        "gate_probability": "result",
        "gate_gain": "result",
    },
    "learn": _TRAINING
    | {
        "min_weight": "result",
        "warmup_mix": "result",
        "replay": "result",
        "replay_rate": "result",
        "orders": "result",
        "step_credit": "result",
    },
    "loop": {"iterations": "result", "patience": "result", "guard": "result", "guard_samples": "result"},
    "tracking": {"report_to": "display", "project": "display", "name": "display"},
}
EFFECTS: dict[str, Effect] = {
    "title": "display",
    "seed": "result",
    **{f"{section}.{name}": effect for section, keys in _SECTIONS.items() for name, effect in keys.items()},
}
"""Effect of each setting, by its key as `--set` takes it."""

_EARLIER_TRAINING: dict[str, Any] = {"denominator": "batch", "keep_float32": False}
EARLIER: dict[str, Any] = {
    **{f"{section}.{name}": value for section in ("warmup", "learn") for name, value in _EARLIER_TRAINING.items()},
    "learn.replay": "none",
    "loop.guard": 0,
}
"""Values that reproduce what versions did before these settings existed; recipes and defaults may say otherwise."""


HOW_MANY = frozenset({"explore.questions", "explore.samples", "explore.first_samples", "explore.settled"})
"""Settings that change how many trajectories are drawn, but not what any one of them is."""
Settings = dict[str, str | int | float | bool | None]
"""Settings by key, with values as JSON has them."""
_SHOWN = 100
"""Maximum number of characters of a value in a message."""


class Change(msgspec.Struct, frozen=True):
    """A setting that differs between two configs."""

    key: str
    before: Any
    after: Any
    effect: Effect

    def __str__(self) -> str:
        """Return the key with both values."""
        return difference(self.key, self.before, self.after)


def changes(before: Config, after: Config) -> list[Change]:
    """Return the settings that differ, in the order of the config."""
    old, new = dict(leaves(before)), dict(leaves(after))
    return [Change(key, old[key], new[key], effect_of(key, before, after)) for key in old if old[key] != new[key]]


def effect_of(key: str, *configs: Config) -> Effect:
    """Return what a setting changes in runs with these configs."""
    section, _, name = key.partition(".")
    if name == "save_steps" and any(getattr(config, section).validation_share for config in configs):
        return "result"  # at a resume point the validation loss is taken, and the weights may be kept
    return EFFECTS[key]


def on_each(section: str, values: object) -> Settings:
    """Return the settings of a section that a single trajectory depends on, with their values in `values`.

    `values` has an attribute for each. Settings of `HOW_MANY`, and those that change no result, are not among them.
    """
    keys = [key for key, effect in EFFECTS.items() if key.startswith(f"{section}.") and effect == "result"]
    settings = {key: getattr(values, key.removeprefix(f"{section}.")) for key in keys if key not in HOW_MANY}
    return msgspec.convert(msgspec.to_builtins(settings), Settings)


REDEFINED = ("warmup.max_grad_norm", "learn.max_grad_norm")
"""Settings whose unit and default changed together with the settings in EARLIER. A resumed run keeps its old value
unless the user sets another."""


def unknown_to(tree: dict[str, Any]) -> list[str]:
    """Return the keys of EARLIER that are missing from a run's `config.toml`, read as `tree`, since its version is
    older.
    """
    return [key for key in EARLIER if key.partition(".")[2] not in tree.get(key.partition(".")[0], {})]


def as_earlier(config: Config, keys: Iterable[str]) -> Config:
    """Return a config in which these settings of EARLIER have the values that earlier versions used."""
    for key in keys:
        config = with_value(config, key, EARLIER[key])
    return config


def value_of(config: Config, key: str) -> Any:
    """Return the value of a setting by its key, such as `learn.kl`."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def with_value(config: Config, key: str, value: Any) -> Config:
    """Return a copy of a config with another value of the setting with this key."""
    section, _, name = key.partition(".")
    changed = msgspec.structs.replace(getattr(config, section), **{name: value})
    return msgspec.structs.replace(config, **{section: changed})


def leaves(section: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a config as pairs of key and value."""
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, msgspec.Struct):
            yield from leaves(value, f"{name}.")
        else:
            yield prefix + name, value


def difference(key: str, before: object, after: object) -> str:
    """Return a setting's change as a message shows it: its key with both values, shortened around the difference."""
    old, new = written(before), written(after)
    if max(len(old), len(new)) > _SHOWN:
        common = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        old, new = (_around(text, common) for text in (old, new))
    return f"{key} = {old} -> {new}"


def other_content(key: str, before: str, after: str) -> str:
    """Return how a message describes a setting whose file or model has other content than before."""
    return f"{key}, which meant {before} and now means {after}"


def _around(text: str, place: int) -> str:
    start = max(place - _SHOWN // 2, 0)
    end = start + _SHOWN
    return f"{'...' * bool(start)}{text[start:end]}{'...' * (end < len(text))}"


def written(value: object) -> str:
    """Return a setting's value as text."""
    return "none" if value is None else msgspec.json.encode(value).decode()
