"""What is wrong with data from outside is said in our own words, with the place, whatever version checks it."""

import ast
import bz2
import gzip
import json
import lzma
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import exsearch
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config
from exsearch.core.shape import ShapeError, convert, decode
from exsearch.questions.question import Question

SOURCE = Path(exsearch.__file__).parent


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    """A part with limits and choices."""

    number: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    share: Annotated[float, msgspec.Meta(gt=0)] | None = None
    choice: Literal["a", "b"] = "a"


class Outer(msgspec.Struct):
    """All that our records are made of."""

    name: str
    inner: Inner | None = None
    parts: list[Inner] = []
    pair: tuple[int, str] = (0, "")
    counts: dict[str, int] = {}
    either: str | list[str] | None = None
    renamed: bool = msgspec.field(name="called", default=False)

    def __post_init__(self) -> None:
        """Refuse one name."""
        if self.name == "no":
            raise ValueError("no name for anything")


CASES: list[tuple[Any, str]] = [
    ({}, "'name' is missing"),
    ([], "must be an object, not a list"),
    (None, "must be an object, not null"),
    ({"name": 7}, "'name' must be a string, not 7"),
    ({"name": "x" * 99}, ""),
    ({"name": ["x"]}, "'name' must be a string, not a list"),
    ({"name": "x", "inner": {"number": 0}}, "'inner.number' must be at least 1 and at most 9, not 0"),
    ({"name": "x", "inner": {"number": True}}, "'inner.number' must be a whole number, not true"),
    ({"name": "x", "inner": {"share": 0}}, "'inner.share' must be more than 0, not 0"),
    ({"name": "x", "inner": {"share": "y"}}, "'inner.share' must be a number or null, not \"y\""),
    ({"name": "x", "inner": {"choice": "c"}}, "'inner.choice' must be one of a, b, not \"c\""),
    ({"name": "x", "inner": {"chioce": "a"}}, "'inner.chioce' is unknown; did you mean 'choice'?"),
    ({"name": "x", "inner": 3}, "'inner' must be an object or null, not 3"),
    ({"name": "x", "parts": [{}, {"number": 10}]}, "'parts[1].number' must be at least 1 and at most 9, not 10"),
    ({"name": "x", "parts": {"0": {}}}, "'parts' must be a list, not an object"),
    ({"name": "x", "pair": [1]}, "'pair' must be a list of 2, not of 1"),
    ({"name": "x", "pair": [1, 2]}, "'pair[1]' must be a string, not 2"),
    ({"name": "x", "counts": {"a": "b"}}, "'counts.a' must be a whole number, not \"b\""),
    ({"name": "x", "either": ["y", 1]}, "'either[1]' must be a string, not 1"),
    ({"name": "x", "either": {}}, "'either' must be a string or a list or null, not an object"),
    ({"name": "x", "called": "yes"}, "'called' must be true or false, not \"yes\""),
    ({"name": "no"}, "no name for anything"),
]


@pytest.mark.parametrize(("value", "message"), CASES)
def test_a_fault_is_named_with_its_place(value: Any, message: str) -> None:
    for read in (lambda: convert(value, Outer), lambda: decode(json.dumps(value).encode(), Outer)):
        if message:
            with pytest.raises(ShapeError) as refused:
                read()
            assert str(refused.value) == message
        else:
            read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, where JSON must be"),
        (b" \n", "empty, where JSON must be"),
        (b'{"name": "x', "not valid JSON (it ends too early)"),
        (b'{"name": "x\\', "not valid JSON (it ends too early)"),
        (b'{"name": ', "not valid JSON (it ends too early)"),
        (b'{"name" "x"}', "not valid JSON (column 9)"),
        (b'{"name":\n "x",}', "not valid JSON (line 2, column 6)"),
        (b'{"name": NaN}', "not valid JSON (NaN is not JSON; write null)"),
        (b'{"name": -Infinity}', "not valid JSON (-Infinity is not JSON; write null)"),
        (b'{"name": "\xff"}', "not UTF-8 (byte 11)"),
        ('{"name": "x"}'.encode("utf-16"), "written in UTF-16; save it as UTF-8"),
        ('{"name": "x"}'.encode("utf-32"), "written in UTF-32; save it as UTF-8"),
        ('{"name": "x"}'.encode("utf-16-le"), "written in UTF-16; save it as UTF-8"),
        ('{"name": "x"}'.encode("utf-16-be"), "written in UTF-16; save it as UTF-8"),
        (gzip.compress(b'{"name": "x"}', mtime=0), "packed by gzip; unpack it first (gunzip)"),
        (bz2.compress(b'{"name": "x"}'), "packed by bzip2; unpack it first (bunzip2)"),
        (lzma.compress(b'{"name": "x"}'), "packed by xz; unpack it first (unxz)"),
        (b"\x28\xb5\x2f\xfd\x04", "packed by Zstandard; unpack it first (unzstd)"),
        (b"PK\x03\x04\x14", "a ZIP archive; extract the file first (unzip)"),
        (b"PAR1\x15\x00", "a Parquet file, where text must be"),
        (b'\xef\xbb\xbf{"name": "x"}', "a byte order mark is in front; save it without"),
        (b'{"name": "\\ud800"}', "not valid JSON (half of a surrogate pair stands alone)"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "a number has more digits than are read; write it as a string"),
        (b'{"name": "x"} {}', "not valid JSON (column 15)"),
    ],
)
def test_what_is_no_json_is_named_for_what_it_is(content: bytes, message: str) -> None:
    with pytest.raises(ShapeError) as refused:
        decode(content, Outer)
    assert str(refused.value) == message


scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5))
names = st.one_of(st.text(max_size=4), st.sampled_from(["name", "inner", "parts", "number", "id", "question", "steps"]))
values = st.recursive(
    scalars, lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(names, part, max_size=4)), max_leaves=12
)


@given(values, st.sampled_from([Outer, Inner, Config, Question, Trajectory, list[Outer], dict[str, int], str]))
def test_exactly_what_msgspec_refuses_is_refused_in_one_plain_line(value: Any, kind: Any) -> None:
    content = json.dumps(value).encode()
    try:
        expected = msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        with pytest.raises(ShapeError) as refused:
            decode(content, kind)
        message = str(refused.value)
        assert message and "\n" not in message.replace("\\n", "") and "`" not in message.replace(repr(value), "")[:9]
        assert "$" not in message or "$" in content.decode()
    else:
        assert msgspec.json.encode(decode(content, kind)) == msgspec.json.encode(expected)


@given(st.binary(max_size=30))
def test_any_bytes_are_json_or_refused_in_one_line(content: bytes) -> None:
    try:
        decode(content)
    except ShapeError as error:
        assert str(error) and "\n" not in str(error)


LIBRARY = re.compile(r"\b(msgspec|BROKEN|BROKEN_GZIP|UnicodeDecodeError|pa|tomllib|csv|json|zlib|gzip|pydantic)\b")
"""Whose errors are for programmers, where one is caught under a name."""


def test_no_message_is_that_of_a_library_which_reads_files() -> None:
    shown = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.ExceptHandler) and node.name and node.type is not None):
                continue
            if LIBRARY.search(ast.unparse(node.type)) and path.name not in ("shape.py", "toml.py"):
                said = [part for part in ast.walk(node) if isinstance(part, ast.FormattedValue)]
                shown += [f"{path.relative_to(SOURCE)}:{part.lineno}" for part in said if says(part.value, node.name)]
    assert shown == []


def says(shown: ast.expr, error: str) -> bool:
    """Whether what a message shows is an error's own words, not what one of our functions makes of it."""
    while isinstance(shown, ast.Attribute | ast.Call):
        if isinstance(shown, ast.Call) and not isinstance(shown.func, ast.Attribute):
            return ast.unparse(shown) in (f"str({error})", f"repr({error})")
        shown = shown.value if isinstance(shown, ast.Attribute) else shown.func
    return isinstance(shown, ast.Name) and shown.id == error
