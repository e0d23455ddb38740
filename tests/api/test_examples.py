"""The examples run as their docstrings say, stay short enough to be read, and use only the public interface."""

import ast
import functools
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import exsearch as xs
from exsearch.agent.asking import SearchAgent
from exsearch.agent.chat import ChatFormat
from exsearch.config import dump_config
from exsearch.core.atomic import write_text
from exsearch.core.jsonl import write_json
from exsearch.core.tokens import TokenIds
from exsearch.runs.layout import RunLayout
from exsearch.runs.records import RunSummary
from scripted import ScriptedEngine, lines

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example with these arguments, in a folder of its own, and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(name: str, *arguments: object) -> str:
        file = EXAMPLES / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(file), *map(str, arguments)])
        runpy.run_path(str(file), run_name="__main__")
        return capsys.readouterr().out

    return run


def exsearch(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line with the examples on PYTHONPATH."""
    path = os.pathsep.join([str(EXAMPLES), str(Path(xs.__file__).parents[1])])
    command = [sys.executable, "-m", "exsearch.cli.main", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_short_says_how_to_run_it_and_uses_the_public_interface_alone(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(source.splitlines()) <= (160 if file.stem == "em_in_one_file" else 80)
    assert f"python examples/{file.name}" in (ast.get_docstring(tree) or "")
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [module for module in modules if module.startswith("exsearch")]
    names = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "xs"
    }
    assert names
    assert names <= {*xs.__all__}


class Sure(ScriptedEngine):
    """Thinks everything likely."""

    @staticmethod
    def _logprobs(start: int, ids: TokenIds) -> list[float]:
        return [-0.01] * len(ids)


def speaking(chat: ChatFormat, *turns: str) -> Callable[..., SearchAgent]:
    """Return a `load_agent` whose agents say these turns."""

    def load(model: Path, index: xs.Retriever, config: xs.AgentConfig, rollout: xs.RolloutConfig) -> SearchAgent:
        assert model.is_dir()
        return SearchAgent(ScriptedEngine(chat, lines(*turns)), index, chat, config, rollout)

    return load


def knowing(chat: ChatFormat, questions: list[xs.Question]) -> Callable[..., SearchAgent]:
    """Return a `load_agent` whose agents search for the question and are right in one of two samples."""

    def say(prompt: str, turn: int, seed: int) -> str:
        [asked] = [question for question in questions if question.text in prompt]
        answer = asked.answers[0] if seed % 2 else "nobody knows"
        return [f"<QUERY> {asked.text}", "<FACT> It is written there. <FINAL>", answer][turn]

    def load(model: str, index: xs.Retriever, config: xs.AgentConfig, rollout: xs.RolloutConfig) -> SearchAgent:
        return SearchAgent(Sure(chat, say), index, chat, config, rollout)

    return load


def test_the_essay_explores_weighs_learns_and_compares(
    run: Run, tmp_path: Path, tiny_checkpoint: Path, chat: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = xs.World(seed=1, passages=400)
    relations = ["birthplace", "studied_at", "employer", "first_mayor"]
    splits = [list(world.questions(split, hops=[1], relations=relations)) for split in ("train", "test")]
    monkeypatch.setattr(xs, "load_agent", knowing(chat, [question for split in splits for question in split]))
    sizes = (
        "--passages",
        400,
        "--warmup",
        2,
        "--explore",
        3,
        "--samples",
        4,
        "--iterations",
        2,
        "--test",
        4,
        "--frozen",
        0,
    )
    said = run("em_in_one_file", "--model", tiny_checkpoint, "--out", tmp_path / "out", *sizes)
    assert "Warm-up: learn the grammar from 2 gold trajectories" in said
    assert said.count("E-step: 4 trajectories for each of 3 questions") == 2
    assert len(re.findall(r"weight \d\.\d\d, p\(y \| x, z\) \d\.\d\d: .+ -> ", said)) == 8
    assert said.count("M-step: learn from") == 2
    assert "the difference, paired, with its 95% interval: 0.000 [0.000, 0.000], n = 4" in said
    for name in ("warmup", "iter-1", "iter-2"):
        assert (tmp_path / "out" / name / "config.json").exists()
        assert (tmp_path / "out" / "eval" / name / "scores.json").exists()
    explored = [xs.read_trajectories(tmp_path / "out" / f"iter-{n}.jsonl") for n in (1, 2)]
    asked = [{each.question_id for each in journal} for journal in explored]
    assert len(asked[0] | asked[1]) == 6


@pytest.mark.slow
def test_the_essay_ends_with_a_better_model_than_its_warm_up(run: Run) -> None:
    said = run("em_in_one_file", "--out", "out")
    [difference] = re.findall(r"95% interval: (-?[\d.]+) \[", said)
    assert float(difference) > 0


def test_your_files_are_cut_into_passages_and_found_and_a_run_answers_from_them(
    run: Run, tmp_path: Path, chat: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "a.md").write_text("filler " * 250 + "The lighthouse was built by Ada Quill.")
    (tmp_path / "texts" / "deep" / "b.txt").write_text("Nothing of interest here.")
    (tmp_path / "texts" / "c.bin").write_bytes(b"\0lighthouse lighthouse lighthouse")
    said = run("search_your_files", "texts", "Who built the lighthouse?")
    assert said.startswith("1. a.md#3: filler")
    assert "c.bin" not in said
    folder = RunLayout(tmp_path / "run")
    folder.checkpoint("warmup").mkdir(parents=True)
    write_text(folder.config, dump_config(xs.Config(agent=xs.AgentConfig(passages=1))))
    write_json(folder.summary, RunSummary("A run", ["warmup"], "warmup", {}, None, []))
    turns = ("<QUERY> builder of the lighthouse", "<FACT> Ada Quill built it. <FINAL>", "Ada Quill")
    monkeypatch.setattr(xs, "load_agent", speaking(chat, *turns))
    asked = run("search_your_files", "texts", "Who built the lighthouse?", "--run", folder.root)
    assert asked.splitlines() == [
        "search  builder of the lighthouse",
        "read    a.md#3",
        "record  Ada Quill built it.",
        "answer  Ada Quill",
    ]


def test_a_retriever_of_ones_own_finds_about_as_much_and_can_be_named(run: Run, tmp_path: Path) -> None:
    said = run("own_retriever", "--passages", 400)
    shares = [int(share) for share in re.findall(r"(\d+)% of", said)]
    assert len(shares) == 2
    assert min(shares) > 50
    named = exsearch(tmp_path, "search", "own_retriever:world", "Who was born there?", "--json")
    assert named.returncode == 0, named.stderr
    assert '"id": "w1-' in named.stdout or '"id":"w1-' in named.stdout


@pytest.fixture
def rollouts(tmp_path: Path, chat: ChatFormat) -> tuple[Path, Path]:
    """A journal with a right and a wrong attempt at a question, and the file of the question."""
    world = xs.World(seed=1, passages=400)
    index = xs.build_index(world.passages(), "bm25", tmp_path / "index")
    questions = list(world.questions("train", 3, hops=[1]))
    agent = knowing(chat, questions)("", index, xs.AgentConfig(), xs.RolloutConfig())
    journal, file = tmp_path / "rollouts.jsonl", tmp_path / "questions.jsonl"
    xs.explore(agent, questions, journal, xs.ExploreConfig(samples=4), seed=3)
    file.write_bytes(b"\n".join(map(msgspec.json.encode, questions)))
    return journal, file


def test_a_weighting_of_ones_own_is_compared_on_the_same_rollouts_and_can_be_named(
    run: Run, tmp_path: Path, rollouts: tuple[Path, Path]
) -> None:
    said = run("own_weighting", *rollouts)
    own, paper = (next(line for line in said.splitlines() if name in line) for name in ("own_weighting", "paper"))
    assert "3 of 3 questions" in paper
    assert "100% on right answers" in own
    name = "own_weighting:above_average"
    named = exsearch(tmp_path, "weigh", *rollouts, "--out", "weights.jsonl", "--weighting", name, "--json")
    assert named.returncode == 0, named.stderr


def test_wrong_input_of_the_weighting_is_one_line(run: Run) -> None:
    with pytest.raises(SystemExit, match=r"^error: absent\.jsonl: "):
        run("own_weighting", "absent.jsonl", "absent.jsonl")


def test_a_grammar_of_ones_own_is_learned_and_spoken(
    run: Run, tmp_path: Path, tiny_checkpoint: Path, chat: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[xs.Trajectory] = []
    learn = xs.learn

    def recorded(model: str, gold: list[xs.Trajectory], *arguments: Any, **settings: Any) -> Path:
        learned.extend(gold)
        return learn(model, gold, *arguments, **settings)

    monkeypatch.setattr(xs, "learn", recorded)
    turns = ("Search: the bridge", "Note: Ada Quill built it. Done.", "Ada Quill")
    monkeypatch.setattr(xs, "load_agent", speaking(chat, *turns))
    printed = run("own_grammar", "--model", tiny_checkpoint, "--questions", 3)
    assert len(learned) == 3
    for trajectory in learned:
        text = chat.decode(trajectory.token_ids)
        assert trajectory.grammar == "own_grammar:PlainWords"
        assert f"Search: {trajectory.steps[0].query}" in text
        assert f"Note: {trajectory.steps[0].evidence} Done." in text
    question, *rest = printed.splitlines()
    assert question.startswith("question ")
    assert rest == ["search   the bridge", "note     Ada Quill built it.", "answer   Ada Quill"]


@pytest.mark.slow
def test_a_model_that_learned_a_grammar_of_ones_own_does_not_break_it(run: Run) -> None:
    printed = run("own_grammar")
    assert re.search(r"^search   \S", printed, re.MULTILINE)
    assert "answer   malformed" not in printed


@functools.cache
def own_grammar() -> dict[str, Any]:
    """What the example defines."""
    return runpy.run_path(str(EXAMPLES / "own_grammar.py"))


WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1)


@given(evidence=WORDS, query=st.none() | WORDS)
def test_a_turn_of_the_grammar_of_ones_own_is_read_back(evidence: str, query: str | None) -> None:
    grammar = own_grammar()["PlainWords"]()
    later = xs.Action(evidence, query)
    assert grammar.parse(grammar.turn(later), first=False) == later
    if query is not None:
        begun = xs.Action(None, query)
        assert grammar.parse(grammar.turn(begun), first=True) == begun


@pytest.mark.parametrize(
    ("turn", "first"),
    [("Done.", True), ("Search: x", False), ("Note: x Search: y", True), ("Search: ", True), ("x", True)],
)
def test_what_is_no_turn_of_the_grammar_of_ones_own_is_malformed(turn: str, first: bool) -> None:
    with pytest.raises(xs.MalformedError):
        own_grammar()["PlainWords"]().parse(turn, first)


def test_a_trajectory_in_a_grammar_of_ones_own_is_explored_and_learned(
    tmp_path: Path, chat: ChatFormat, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    config = xs.AgentConfig(grammar="own_grammar:PlainWords")
    question = xs.Question("q1", "Who founded the Marlow Observatory?", ["Ada Quill"])
    index = xs.build_index([xs.Passage("p1", "Marlow", "Ada Quill founded it.")], "bm25", tmp_path / "index")
    engine = ScriptedEngine(chat, lines("Search: Marlow", "Note: Ada Quill did. Done.", "Ada Quill"))
    agent = SearchAgent(engine, index, chat, config)
    [trajectory] = xs.explore(agent, [question], tmp_path / "rollouts.jsonl", xs.ExploreConfig(samples=1))
    assert (trajectory.answer, trajectory.grammar) == ("Ada Quill", "own_grammar:PlainWords")
    weights = xs.weigh([trajectory], [question])
    model = xs.learn(tiny_checkpoint, [trajectory], tmp_path / "model", weights, agent=config)
    assert (model / "config.json").exists()


def test_search_r1_is_answered_in_its_own_words(run: Run) -> None:
    said = run("serve_to_search_r1", "--passages", 400)
    assert re.search(r"retriever\.url=http://127\.0\.0\.1:\d+/retrieve", said)
    assert len(re.findall(r"^ +\d+\.\d\d  ", said, re.MULTILINE)) == 6
