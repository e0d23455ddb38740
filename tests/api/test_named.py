"""A user's own grammar, weighting and retriever are named as `module:name`; what is not there is one clear error."""

from pathlib import Path

import pytest

import exsearch as xs
from exsearch.agent.grammars.registry import make_grammar
from exsearch.config import parse_config
from exsearch.core.named import find_own, is_own
from exsearch.em.weigh import weighting_of
from exsearch.retrieval.open import open_located, open_retriever

OWN = """
import exsearch as xs

class Half(xs.Grammar):
    def opening(self, question):
        return question

class Empty:
    fingerprint = "empty"
    def search(self, queries, k):
        return [[] for _ in queries]

def minus(samples, temperature):
    return [-1.0 for _ in samples]

number = 3
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of a user's own, on the path."""
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "needing.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("name", ["mine:Half", "a.b:c", "_x:Y1"])
def test_module_and_name_are_ones_own(name: str) -> None:
    assert is_own(name)


@pytest.mark.parametrize(
    "name", ["paper", "http://host:80", "replay:FILE.sqlite", "a:b:c", "1:2", ":x", "x:", "C:\\index"]
)
def test_what_is_no_module_and_name_is_not_ones_own(name: str) -> None:
    assert not is_own(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent:X", "there is no module 'absent' where Python looks"),
        ("mine.deeper:X", "there is no module 'mine.deeper' where Python looks"),
        ("mine:Hafl", "has no Hafl; did you mean 'Half'"),
        ("broken:X", "importing broken failed: ZeroDivisionError"),
        ("needing:X", "importing needing failed: No module named 'not_installed_anywhere'"),
    ],
)
def test_what_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(xs.UsageError, match=f"^agent.grammar = {name}: .*{message}"):
        find_own(name, "agent.grammar")


@pytest.mark.parametrize(
    ("name", "message"), [("mine:Half", "lacks the methods parse, turn"), ("mine:Empty", "not a class derived")]
)
def test_a_grammar_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(xs.UsageError, match=message):
        make_grammar(xs.AgentConfig(grammar=name))


def test_a_weighting_that_is_none_is_refused() -> None:
    with pytest.raises(xs.UsageError, match="not a function"):
        weighting_of(xs.WeighConfig(weighting="mine:number"))
    sample = xs.Sample(0.0, 0.0, 0.0, exact_match=1.0, f1=1.0, gain=None)
    with pytest.raises(xs.UsageError, match=r"one number of 0 or more for each of 1 samples, not \[-1.0\]"):
        weighting_of(xs.WeighConfig(weighting="mine:minus"))([sample], 1.0)


def test_a_retriever_of_ones_own_is_opened_and_has_no_corpus() -> None:
    assert open_retriever("mine:Empty").search(["a", "b"], 3) == [[], []]
    assert open_located("mine:Empty").corpus is None
    with pytest.raises(xs.UsageError, match="not a class or function that returns a retriever"):
        open_retriever("mine:number")
    with pytest.raises(xs.UsageError, match="returned no retriever"):
        open_retriever("builtins:dict")


def test_a_folder_of_such_a_name_is_an_index_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    xs.build_index([xs.Passage("p", "t", "words")], "bm25", "mine:Empty")
    assert xs.open_index("mine:Empty").search(["words"], 1)[0][0].passage.id == "p"


def test_a_recipe_may_name_ones_own_and_nothing_that_is_neither() -> None:
    settings = ["agent.grammar=mine:Half", "weigh.weighting=mine:minus", "data.index=mine:Empty"]
    assert parse_config({}, settings, "recipe").agent.grammar == "mine:Half"
    with pytest.raises(
        xs.UsageError, match=r"recipe: 'agent\.grammar' must be one of exsearch, closed-book, .* not \"exserch\""
    ):
        parse_config({}, ["agent.grammar=exserch"], "recipe")
