"""Settings read from TOML, changed by dotted overrides, and written back; unknown keys are refused."""

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tomli_w

from exsearch.config.sections import Config, Section
from exsearch.core.errors import UsageError, nearest
from exsearch.core.shape import ShapeError, convert
from exsearch.core.toml import read_toml

S = TypeVar("S", bound=Section)


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a recipe; relative paths in it are relative to the working directory, as on the command line.

    >>> _ = Path("recipe.toml").write_text("[agent]\\npassages = 2")
    >>> config = xs.load_config("recipe.toml", ["explore.samples=8"])
    >>> config.agent.passages, config.explore.samples
    (2, 8)
    """
    return parse_config(read_toml(Path(path)), overrides or [], str(path))


def parse_config(tree: dict[str, Any], overrides: list[str], source: str) -> Config:
    """Check a tree of settings after applying `a.b=value` overrides; `source` names it in errors."""
    for override in overrides:
        apply_override(tree, override)
    _refuse_unknown(tree, Config, source, "")
    try:
        return convert(tree, Config)
    except ShapeError as error:
        raise UsageError(f"{source}: {error}") from None


def checked(settings: S, *kinds: type[S]) -> S:
    """Return the settings if they are valid, and one of `kinds`.

    For settings made in Python, since msgspec checks only what it decodes. Raises UsageError.
    """
    if not isinstance(settings, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UsageError(f"{type(settings).__name__} given, {names} expected")
    try:
        convert(msgspec.to_builtins(settings), type(settings))
    except ShapeError as error:
        raise UsageError(f"{type(settings).__name__}: {error}") from None
    return settings


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Apply an override `a.b=value` to a tree of settings; the value is read as TOML, or else as plain text."""
    key, equals, value = override.partition("=")
    if not equals:
        raise UsageError(f"--set {override}: write it as section.key=value")
    *sections, name = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UsageError(f"--set {override}: {section!r} is not a section")
    try:
        tree[name] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tree[name] = value
    except (RecursionError, ValueError):  # the latter for a number of thousands of digits
        raise UsageError(f"--set {key}: its value is nested too deeply, or a number with too many digits") from None


def _refuse_unknown(tree: dict[str, Any], kind: type[msgspec.Struct], source: str, prefix: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in tree.items():
        if name not in fields:
            raise UsageError(f"{source}: unknown key {prefix + name!r}{nearest(name, list(fields))}")
        section = fields[name]
        if isinstance(section, type) and issubclass(section, msgspec.Struct) and isinstance(value, dict):
            _refuse_unknown(value, section, source, f"{prefix}{name}.")


def dump_config(config: Config, leave_out: Collection[str] = ()) -> str:
    """Return the resolved config as TOML, without keys that have no value.

    `leave_out` names further keys to skip, with their section, such as `learn.kl`.
    """
    tree = _without_none(msgspec.to_builtins(config))
    for key in leave_out:
        section, _, name = key.partition(".")
        del tree[section][name]
    return tomli_w.dumps(tree)


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in tree.items()
        if value is not None
    }
