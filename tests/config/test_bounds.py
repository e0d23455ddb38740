"""Numbers beyond any sense are refused by the setting's name, and nothing that is nested or endless is a traceback."""

from pathlib import Path

import pytest

from exsearch.config import load_config, parse_config
from exsearch.core.errors import UsageError


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e308", "1e309", str(2**63), str(10**40)])
@pytest.mark.parametrize(
    "key",
    [
        "explore.temperature",
        "weigh.temperature",
        "learn.learning_rate",
        "learn.max_grad_norm",
        "agent.passages",
        "agent.max_steps",
        "explore.samples",
        "rollout.search_seconds",
        "seed",
    ],
)
def test_numbers_without_sense_are_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"'{key}' must be"):
        parse_config({}, [f"{key}={value}"], "--set")


def test_the_largest_seed_is_taken() -> None:
    assert parse_config({}, [f"seed={2**63 - 1}"], "--set").seed == 2**63 - 1


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "9" * 5000, "{a = " * 3000 + "1" + "}" * 3000])
def test_what_is_nested_too_deeply_or_endless_is_one_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(
        UsageError, match="--set seed: its value is nested too deeply, or a number with too many digits"
    ):
        parse_config({}, [f"seed={value}"], "--set")
    (tmp_path / "recipe.toml").write_text(f"seed = {value}\n")
    with pytest.raises(UsageError, match=r"recipe\.toml: nested too deeply, or a number with too many digits"):
        load_config(tmp_path / "recipe.toml")


def test_a_key_of_many_sections_is_an_unknown_key() -> None:
    with pytest.raises(UsageError, match="unknown key 'a'"):
        parse_config({}, [f"{'a.' * 3000}a=1"], "--set")
