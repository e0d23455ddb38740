"""A user's own grammar, weighting, engine or retriever is `module:name`; what is not there is one clear error."""

import re
from pathlib import Path

import pytest

import exsearch as xs
from exsearch.agent.grammars.registry import make_grammar
from exsearch.config import parse_config
from exsearch.core.named import find_own, is_own
from exsearch.em.weigh import weighting_of
from exsearch.engine.load import load_engine
from exsearch.engine.spec import EngineSpec
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

class Unranked:
    fingerprint = "unranked"
    def search(self, queries, k):
        return [[xs.Hit(xs.Passage("a", "A", "text"), 1.0, 0)] for _ in queries]

def minus(samples, temperature):
    return [-1.0 for _ in samples]

def no_engine(spec, chat):
    return {}

number = 3
"""
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "engines.md"


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


def test_an_engine_of_ones_own_as_in_the_guide_answers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "own_engine.py").write_text(code)
    answers = []
    for engine in ("transformers", "own_engine:counted"):
        model = xs.ModelConfig(path=str(tiny_checkpoint), engine=engine, precision="fp32")
        agent = xs.AgentConfig(context=512, turn_tokens=8, max_steps=1)
        with xs.load_agent(model, "mine:Empty", agent) as asked:
            answers.append(asked.answer("Who?").token_ids)
    assert answers[0] == answers[1]
    assert find_own("own_engine:counted", "model.engine").conversations == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine:number", "not a function of"),
        ("mine:no_engine", "what it returns lacks context_size, fingerprint, open, scores, seats, shut_down, stats of"),
    ],
)
def test_an_engine_that_is_none_is_refused(name: str, message: str, tiny_checkpoint: Path) -> None:
    with pytest.raises(xs.UsageError, match=rf"^model\.engine = {name}: {message}"):
        load_engine(EngineSpec(tiny_checkpoint, xs.ModelConfig(engine=name), 512, 1), None)  # type: ignore[arg-type]


def test_a_retriever_of_ones_own_is_opened_and_has_no_corpus() -> None:
    assert open_retriever("mine:Empty").search(["a", "b"], 3) == [[], []]
    assert open_located("mine:Empty").corpus is None
    with pytest.raises(xs.UsageError, match="not a class or function that returns a retriever"):
        open_retriever("mine:number")
    with pytest.raises(xs.UsageError, match="returned no retriever"):
        open_retriever("builtins:dict")


def test_hits_that_are_unsound_never_reach_who_asked() -> None:
    with pytest.raises(xs.RetrievalError, match="did not return sound hits: hit 1 has the rank 0; ranks count from 1"):
        open_retriever("mine:Unranked").search(["a"], 3)


def test_a_folder_of_such_a_name_is_an_index_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    xs.build_index([xs.Passage("p", "t", "words")], "bm25", "mine:Empty")
    assert xs.open_index("mine:Empty").search(["words"], 1)[0][0].passage.id == "p"


def test_a_recipe_may_name_ones_own_and_nothing_that_is_neither() -> None:
    settings = ["agent.grammar=mine:Half", "weigh.weighting=mine:minus", "data.index=mine:Empty"]
    assert parse_config({}, settings, "recipe").agent.grammar == "mine:Half"
    with pytest.raises(
        xs.UsageError,
        match=r"recipe: 'agent\.grammar' must be one of exsearch, exsearch-select, closed-book, .* not \"exserch\"",
    ):
        parse_config({}, ["agent.grammar=exserch"], "recipe")
