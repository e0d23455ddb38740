"""For each setting, a config in which only it has another value than by default."""

from typing import Any

import msgspec
from msgspec import inspect

from exsearch.config import Config, parse_config


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


DEFAULTS = leaves(msgspec.to_builtins(Config()))


def another(key: str) -> Config:
    """The default config with another value of one setting."""
    section, _, name = key.rpartition(".")
    owner = type(getattr(Config(), section)) if section else Config
    described: Any = inspect.type_info(owner)
    kind = next(field for field in described.fields if field.name == name).type
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    value: Any = None
    for part in parts:
        if isinstance(part, inspect.IntType):
            value = 7
        elif isinstance(part, inspect.FloatType):
            value = 0.625
        elif isinstance(part, inspect.BoolType):
            value = not DEFAULTS[key]
        elif isinstance(part, inspect.LiteralType):
            value = next(choice for choice in part.values if choice != DEFAULTS[key])
        elif isinstance(part, inspect.ListType):
            value = ["trackio"]
        elif isinstance(part, inspect.DateType):
            value = "2026-01-31"
        elif isinstance(part, inspect.StrType):
            value = "mine:other" if part.pattern else "other"
    tree: dict[str, Any] = {section: {name: value}} if section else {name: value}
    return parse_config(tree, [], "test")
