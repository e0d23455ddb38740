"""Decodes data from outside into the required shape, or explains what is wrong in plain words.

msgspec decides whether the shape is right. Its error message is not shown, since its wording changes with its version
and is for programmers: the fault is located again here and put into words.
"""

import datetime
import json
import re
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import msgspec

from exsearch.core.errors import nearest
from exsearch.core.foreign import HEAD, foreign

T = TypeVar("T")
BROKEN = (msgspec.DecodeError, ValueError, RecursionError)
"""msgspec's exceptions for invalid JSON, for JSON of another shape, and for a number too long for Python."""

_NAMES = {
    **{str: "a string", bool: "true or false", int: "a whole number", float: "a number", bytes: "a string"},
    datetime.date: "a date, such as 2026-01-31",
}
_OPEN_TEXT = re.compile(r'"(?:[^"\\]|\\.)*\\?', re.DOTALL)
"""The start of a JSON string without its end."""
_LARGE = 10**9
"""An upper limit from here on is named only to who exceeds it."""
_SHOWN = 40
"""Maximum characters of a value in a message."""


class ShapeError(ValueError):
    """Data has another shape than required; the message says where, and what is wrong."""


def convert(value: Any, kind: type[T], strict: bool = True) -> T:
    """Return nested dicts, lists and scalars as a `kind`. Raises ShapeError. `strict` does not accept text for a
    number."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, RecursionError):
        raise ShapeError(_misfit(value, kind, strict)) from None


def decode(content: bytes, kind: Any = Any) -> Any:
    """Return JSON as a `kind`. Raises ShapeError."""
    try:
        return msgspec.json.decode(content, type=kind)
    except BROKEN:
        raise ShapeError(fault(content, kind)) from None


def fault(content: bytes, kind: Any) -> str:
    """Return what is wrong with bytes that msgspec could not decode as JSON of a `kind`."""
    try:
        value = msgspec.json.decode(content)
    except BROKEN:
        return syntax_fault(content)
    return _misfit(value, kind, strict=True)


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return the position at which bytes stop being UTF-8."""
    return f"not UTF-8 (byte {error.start + 1})"


def syntax_fault(content: bytes) -> str:
    """Return why bytes are not valid JSON."""
    if not content.strip():
        return "empty, where JSON must be"
    if description := foreign(content[:HEAD]):
        return description
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)
    if text.startswith("\ufeff"):
        return "a byte order mark is in front; save it without"

    def refuse(constant: str) -> NoReturn:
        raise ShapeError(f"not valid JSON ({constant} is not JSON; write null)")

    try:
        json.dumps(json.loads(text, parse_constant=refuse), ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or _OPEN_TEXT.fullmatch(text, error.pos):
            return "not valid JSON (it ends too early)"
        line = f"line {error.lineno}, " if "\n" in text.strip() else ""
        return f"not valid JSON ({line}column {error.colno})"
    except UnicodeEncodeError:
        return "not valid JSON (half of a surrogate pair stands alone)"
    except ShapeError as error:
        return str(error)
    except RecursionError:
        return "nested too deeply"
    except ValueError:
        return "a number has more digits than are read; write it as a string"
    return "not valid JSON"


def _misfit(value: Any, kind: Any, strict: bool) -> str:
    """Return why a value is not a `kind`: the first fault in the order of its fields."""
    try:
        return _at("", value, kind, strict)
    except RecursionError:
        return "nested too deeply"


def _accepted(value: Any, kind: Any, strict: bool) -> bool:
    try:
        msgspec.convert(value, kind, strict=strict, str_keys=True)
    except msgspec.ValidationError:
        return False
    return True


def _at(path: str, value: Any, kind: Any, strict: bool) -> str:
    """Return the fault of the value at `path`, which is not a `kind`, or of the first faulty part of it."""
    kind, limits = _without_limits(kind)
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        return _of_union(path, value, inner, strict)
    if isinstance(value, dict) and _is_struct(kind):
        return _of_fields(path, value, kind, strict)
    if isinstance(value, dict) and origin is dict and inner:
        parts: Iterable[tuple[str, Any, Any]] = ((_key(path, name), part, inner[1]) for name, part in value.items())
    elif isinstance(value, list) and origin in (list, set, frozenset, tuple) and inner:
        if origin is tuple and inner[-1] is not Ellipsis:
            if len(value) != len(inner):
                return f"{_said(path)}must be a list of {len(inner)}, not of {len(value)}"
            kinds = list(inner)
        else:
            kinds = [inner[0]] * len(value)
        parts = ((f"{path}[{n}]", part, each) for n, (part, each) in enumerate(zip(value, kinds, strict=True)))
    else:
        parts = ()
    for where, part, each in parts:
        if not _accepted(part, each, strict):
            return _at(where, part, each, strict)
    if limits is not None and _accepted(value, kind, strict):
        names = (limits.extra or {}).get("names", [])
        return f"{_said(path)}must be {_limited(limits, value)}, not {_shown(value)}{_meant(value, names)}"
    return f"{_said(path)}must be {_expected(kind)}, not {_shown(value)}{_meant(value, _names(kind))}"


def _of_fields(path: str, value: dict[str, Any], kind: Any, strict: bool) -> str:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, field in fields.items():
        if name not in value:
            if field.required:
                return f"{_key(path, name)!r} is missing"
        elif not _accepted(value[name], field.type, strict):
            return _at(_key(path, name), value[name], field.type, strict)
    unknown = next((name for name in value if name not in fields), None)
    if unknown is not None:
        return f"{_key(path, unknown)!r} is unknown{nearest(unknown, list(fields))}"
    try:
        msgspec.convert(value, kind, strict=strict, str_keys=True)
    except msgspec.ValidationError as error:
        if error.__cause__ is not None:  # raised by a `__post_init__` of this project
            return f"{path!r}: {error.__cause__}" if path else str(error.__cause__)
    return f"{_said(path)}must have another shape"


def _of_union(path: str, value: Any, kinds: tuple[Any, ...], strict: bool) -> str:
    """Return the fault in the member of a union that the value is closest to, or otherwise the allowed kinds."""
    for kind in kinds:
        bare, limits = _without_limits(kind)
        origin = get_origin(bare) or bare
        natural: Any = dict if _is_struct(bare) else int | float if origin is float else origin
        alike = isinstance(natural, type | types.UnionType) and isinstance(value, natural)
        if alike and (limits is not None or isinstance(value, dict | list)):
            return _at(path, value, kind, strict)
    names = [name for kind in kinds for name in _names(kind)]
    return f"{_said(path)}must be {_any_of(kinds)}, not {_shown(value)}{_meant(value, names)}"


def _names(kind: Any) -> list[str]:
    """Return the texts that a type is made of, if it is made of such."""
    return [name for name in get_args(kind) if isinstance(name, str)] if get_origin(kind) is Literal else []


def _meant(value: Any, names: list[str]) -> str:
    return nearest(value, names) if isinstance(value, str) else ""


def _without_limits(kind: Any) -> tuple[Any, msgspec.Meta | None]:
    """Return a type without its constraints, and the constraints."""
    if get_origin(kind) is Annotated:
        inner, *marks = get_args(kind)
        return inner, next((mark for mark in marks if isinstance(mark, msgspec.Meta)), None)
    return kind, None


def _limited(limits: msgspec.Meta, value: Any) -> str:
    high = limits.le
    if high is not None and high >= _LARGE:  # such a limit only keeps out what makes no sense
        low = limits.ge if limits.ge is not None else limits.gt
        if isinstance(value, int | float) and low is not None and not value > high and value == value:
            high = None
    if limits.pattern and limits.description:  # a description replaces the pattern
        return limits.description
    phrases = {
        "at least": limits.ge,
        "more than": limits.gt,
        "at most": high,
        "less than": limits.lt,
        "of a length of at least": limits.min_length,
        "of a length of at most": limits.max_length,
        "a multiple of": limits.multiple_of,
        "of the form": limits.pattern,
    }
    return " and ".join(f"{words} {value}" for words, value in phrases.items() if value is not None) or "valid"


def _expected(kind: Any) -> str:
    """Return the description of a type's values."""
    kind, _ = _without_limits(kind)
    origin = get_origin(kind) or kind
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if origin in (Union, types.UnionType):
        return _any_of(get_args(kind))
    if origin in (None, types.NoneType):
        return "null"
    if origin in (list, tuple, set, frozenset):
        return "a list"
    if origin is dict or _is_struct(kind):
        return "an object"
    return _NAMES.get(origin, "of another kind")


def _any_of(kinds: tuple[Any, ...]) -> str:
    """Return the description of the values of several types; a whole number is a number."""
    return " or ".join(_expected(kind) for kind in kinds if not (kind is int and float in kinds))


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple | set):
        return "a list"
    if isinstance(value, bytes | bytearray):
        return "bytes"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _key(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _said(path: str) -> str:
    return f"{path!r} " if path else ""
