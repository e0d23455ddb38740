"""Settings: every key checked, a wrong one answered with the nearest name."""

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from exsearch.config import Config, dump_config, load_config, parse_config
from exsearch.config.sections import Section
from exsearch.core.errors import UsageError, nearest

RECIPES = sorted((Path(__file__).parents[2] / "src/exsearch/recipes").glob("*.toml"))


def settings_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Any value that the config allows there."""
    if isinstance(kind, inspect.Metadata):
        return settings_of(kind.type)
    if isinstance(kind, inspect.StructType):
        return st.builds(kind.cls, **{field.name: settings_of(field.type) for field in kind.fields})
    if isinstance(kind, inspect.IntType):
        return st.integers(kind.ge or 0, kind.le or 2**63 - 1)
    if isinstance(kind, inspect.FloatType):
        return st.floats(kind.gt or kind.ge or 0.0, kind.le or 1e300, exclude_min=kind.gt is not None)
    if isinstance(kind, inspect.UnionType):
        return st.one_of([settings_of(part) for part in kind.types])
    if isinstance(kind, inspect.ListType):
        return st.lists(settings_of(kind.item_type), max_size=3)
    if isinstance(kind, inspect.LiteralType):
        return st.sampled_from(kind.values)
    if isinstance(kind, inspect.DateType):
        return st.dates()
    if isinstance(kind, inspect.StrType) and kind.pattern:
        return st.from_regex(kind.pattern)
    return {inspect.StrType: st.text(), inspect.NoneType: st.none(), inspect.BoolType: st.booleans()}[type(kind)]


configs: st.SearchStrategy[Config] = settings_of(inspect.type_info(Config))


@given(configs)
def test_a_config_survives_its_toml_file(config: Config) -> None:
    assert parse_config(tomllib.loads(dump_config(config)), [], "dumped") == config


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_package_is_valid(path: Path) -> None:
    assert load_config(path) != Config()


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("explore.samples=8", "explore", "samples", 8),
        ("learn.learning_rate=3e-5", "learn", "learning_rate", 3e-5),
        ("weigh.weighting=nll-mean", "weigh", "weighting", "nll-mean"),
        ('weigh.gate="drop"', "weigh", "gate", "drop"),
        ("data.train=a=b.jsonl", "data", "train", "a=b.jsonl"),
        ("model.path=./runs/my model", "model", "path", "./runs/my model"),
        (" agent.max_steps = 2", "agent", "max_steps", 2),
        ("data.train_limit=5", "data", "train_limit", 5),
    ],
)
def test_an_override_changes_one_key(override: str, section: str, key: str, value: object) -> None:
    config = parse_config({}, [override], "x")
    assert getattr(getattr(config, section), key) == value
    changed = msgspec.structs.replace(getattr(Config(), section), **{key: value})
    assert config == msgspec.structs.replace(Config(), **{section: changed})


def test_the_last_override_wins_over_earlier_ones_and_the_file(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("title = 'mine'\n[explore]\nsamples = 2\ntemperature = 0.5\n")
    config = load_config(recipe, ["explore.samples=3", "explore.samples=4"])
    assert (config.title, config.explore.samples, config.explore.temperature) == ("mine", 4, 0.5)


@pytest.mark.parametrize(
    ("tree", "overrides", "message"),
    [
        ({"explor": {}}, [], "recipe: unknown key 'explor'; did you mean 'explore'?"),
        ({"explore": {"sample": 3}}, [], "recipe: unknown key 'explore.sample'; did you mean 'samples'?"),
        ({"learn": {"zzz": 3}}, [], "recipe: unknown key 'learn.zzz'"),
        ({}, ["learn.batchsize=3"], "recipe: unknown key 'learn.batchsize'; did you mean 'batch_size'?"),
        ({}, ["seed"], "--set seed: write it as section.key=value"),
        ({}, ["title.x=1"], "recipe: "),
        ({"title": "x"}, ["title.x=1"], "--set title.x=1: 'title' is not a section"),
    ],
)
def test_a_wrong_key_is_refused_with_the_nearest_one(tree: dict[str, Any], overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_config(tree, overrides, "recipe")
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("explore.samples=0", "explore.samples"),
        ("explore.samples=many", "explore.samples"),
        ("explore.top_p=1.5", "explore.top_p"),
        ("learn.learning_rate=0", "learn.learning_rate"),
        ("weigh.weighting=best", "weigh.weighting"),
        ("agent=3", "agent"),
        ("seed=-1", "seed"),
        ("weigh.gate_probability=0", "weigh.gate_probability"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(override: str, where: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_config({}, [override], "recipe.toml")
    assert str(refusal.value).startswith(f"recipe.toml: '{where}' must be ")


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("weigh.weighting=nll_mean", "nll-mean"),
        ("agent.grammar=search_r1", "search-r1"),
        ("learn.schedule=const", "constant"),
        ("learn.normalise=questions", "question"),
        ("model.precision=BF16", "bf16"),
        ("tracking.report_to=['tensorbord']", "tensorboard"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest_one(override: str, meant: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_config({}, [override], "recipe")
    assert str(refusal.value).endswith(f"; did you mean {meant!r}?")


@pytest.mark.parametrize("override", ["weigh.weighting=zzz", "agent.max_steps=zzz", "agent.thinking=true"])
def test_where_no_name_is_near_none_is_suggested(override: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_config({}, [override], "recipe")
    assert "did you mean" not in str(refusal.value)


AMERICAN = (("ise", "ize"), ("isation", "ization"), ("yse", "yze"), ("our", "or"), ("centre", "center"))


def american(name: str) -> str:
    for british, spelling in AMERICAN:
        name = re.sub(rf"{british}(?=d|r|_|-|$)", spelling, name)
    return name


SETTINGS = [
    (section.name, field.name, field.type)
    for section in msgspec.structs.fields(Config)
    if isinstance(section.type, type) and issubclass(section.type, Section)
    for field in msgspec.structs.fields(section.type)
]


def test_every_setting_and_value_is_found_by_its_american_spelling() -> None:
    keys = [(section, name) for section, name, _ in SETTINGS if american(name) != name]
    assert {name for _, name in keys} == {"normalise", "quantise", "retokenise"}
    for section, name in keys:
        with pytest.raises(UsageError) as refusal:
            parse_config({}, [f"{section}.{american(name)}=x"], "recipe")
        assert str(refusal.value) == f"recipe: unknown key '{section}.{american(name)}'; did you mean {name!r}?"
    values = [value for _, _, kind in SETTINGS if get_origin(kind) is Literal for value in get_args(kind)]
    assert len(values) > 20
    for value in values:
        if american(value) != value:
            assert nearest(american(value), values) == f"; did you mean {value!r}?"


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("color", ["cold", "colour"], "colour"),
        ("colour", ["colours", "color"], "color"),
        ("normalize", ["normaliser", "normalise"], "normalise"),
        ("normalization", ["normalise", "normalisation"], "normalisation"),
        ("analyze", ["analyse"], "analyse"),
        ("center", ["enter", "centre"], "centre"),
        ("quantize", ["quantile", "quantise"], "quantise"),
        ("retokenize", ["tokens", "retokenise"], "retokenise"),
        ("batch-size", ["batch_sizes", "batch_size"], "batch_size"),
    ],
)
def test_another_spelling_of_a_word_is_nearer_than_any_other_word(word: str, known: list[str], meant: str) -> None:
    assert nearest(word, known) == f"; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = 1\n[explore\n", ", line 2, column 9: not valid TOML: [explore"),
        (b"title = mine\n", ", line 1, column 9: not valid TOML (texts need quotes): title = mine"),
        (b"seed = 1\n\nseed = 2\n", ", line 3: sets a key again: seed = 2"),
        (b"[loop]\npatience = 1\n[loop]\n", ", line 3: sets a key again: [loop]"),
        (b'title = """x\n', ": not valid TOML: it ends too early"),
        (b"a = \xff\n", ": not UTF-8 (byte 5)"),
        ("seed = 1\n".encode("utf-16"), ": is written in UTF-16; save it as UTF-8"),
        (b"\x1f\x8b\x08", ": is packed by gzip; unpack it first (gunzip)"),
        (None, ": no such file"),
    ],
)
def test_a_file_that_is_no_toml_is_named_with_the_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        load_config(path)
    assert str(refused.value) == f"{path}{message}"


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("seed = 7\n", encoding="utf-8-sig")
    assert load_config(tmp_path / "recipe.toml").seed == 7
