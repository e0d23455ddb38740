"""The reference pages that are generated say what the code says now."""

import sys
from pathlib import Path

import msgspec
import pytest

from exsearch.config import Config, TrainingConfig
from exsearch.effects import EFFECTS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import reference_pages  # noqa: E402


@pytest.mark.parametrize("name", reference_pages.pages())
def test_the_page_is_what_the_code_makes_of_it(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == reference_pages.pages()[name], "run python tools/reference_pages.py"


def test_every_setting_is_on_the_page_with_its_docstring_and_default() -> None:
    page = reference_pages.settings()
    for section in msgspec.structs.fields(Config):
        owner = section.type if reference_pages.is_section(section.type) else Config
        for name, said in reference_pages.docstrings(owner).items():
            assert f"| `{name}` |" in page
            assert reference_pages.cell(said) in page
    assert "| `max_steps` | `5` | Maximum number of searches per question. ≥ 1. | fixed |" in page
    assert page.count("\n| `") == len(EFFECTS) - len(msgspec.structs.fields(TrainingConfig)), "both share one table"


def test_a_changed_docstring_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference_pages.settings()
    monkeypatch.setattr(reference_pages, "docstrings", lambda owner: dict.fromkeys(keys_of(owner), "Something else."))
    assert reference_pages.settings() != before


def keys_of(owner: type) -> list[str]:
    return [field.name for field in msgspec.structs.fields(owner)]


def test_every_verb_and_its_options_are_on_the_page() -> None:
    page = reference_pages.commands()
    for heading in (
        "## exsearch quickstart",
        "### exsearch corpus import",
        "### exsearch serve check",
        "## exsearch doctor",
    ):
        assert f"\n{heading}\n" in page
    assert "| `--samples`" not in page
    assert "| `-k` INTEGER RANGE | `5` | Number of hits. |" in page
    assert page.count("`--set` KEY=VALUE") > 5
