"""`import exsearch` is a small Python interface whose examples run, in a script and in a notebook."""

import ast
import asyncio
import doctest
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import exsearch as xs
from exsearch.agent.asking import SearchAgent
from exsearch.agent.chat import ChatFormat
from exsearch.core.jsonl import write_jsonl
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, EngineError, Sampling
from scripted import ScriptedEngine, StaticRetriever, lines

QUESTION = xs.Question("q1", "Who founded the Marlow Observatory?", ["Ada Quill"])
PASSAGES = [xs.Passage("p1", "Marlow Observatory", "Ada Quill founded it in 1871.")]
TURNS = (
    "<QUERY> founder of the Marlow Observatory",
    "<FACT> Ada Quill founded it. <FINAL>",
    "Ada Quill",
)


def make_agent(chat: ChatFormat, turns: tuple[str, ...] = TURNS) -> SearchAgent:
    return SearchAgent(ScriptedEngine(chat, lines(*turns)), StaticRetriever(PASSAGES), chat, xs.AgentConfig())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples put what they make."""
    return tmp_path_factory.mktemp("examples") / "work"


@pytest.fixture(scope="module")
def names(work: Path, chat: ChatFormat, tiny_checkpoint: Path) -> dict[str, Any]:
    """What the examples name without making it."""
    world, agent = xs.World(seed=1, passages=400), make_agent(chat)
    (work.parent / "docs").mkdir()
    (work.parent / "docs" / "lamp.md").write_text("# Lamp\n\nIt burns.\n")
    index = xs.build_index(world.passages(), "bm25", work / "index")
    return {
        "xs": xs,
        "Path": Path,
        "model": str(tiny_checkpoint),
        "world": world,
        "index": index,
        "agent": agent,
        "questions": [QUESTION],
        "gold": xs.gold_trajectories(tiny_checkpoint, world.questions("train", 3, hops=[1]), index),
        "rollouts": xs.explore(agent, [QUESTION], work / "rollouts.jsonl", xs.ExploreConfig(samples=2)),
    }


@pytest.mark.parametrize("name", ["exsearch", *xs.__all__])
def test_every_name_is_documented_by_an_example_that_runs(
    name: str, names: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work.parent)
    documented = xs if name == "exsearch" else getattr(xs, name)
    found = doctest.DocTestFinder(recurse=name != "exsearch").find(documented, name, module=False, globs=names)
    examples = [test for test in found if test.examples]
    assert examples, f"the docstring of {name} has no example"
    for test in examples:
        said: list[str] = []
        assert not doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append).failed, "".join(said)


def test_the_editors_names_the_public_names_and_the_lazy_names_are_the_same() -> None:
    source = ast.parse(Path(xs.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in source.body if isinstance(node, ast.If)]
    imported = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == xs._HOMES
    assert sorted(xs.__all__) == sorted(imported)
    assert set(xs.__all__) <= set(dir(xs))


def test_importing_is_instant_and_asking_for_data_imports_no_model_code() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import exsearch as xs; seconds = time.perf_counter() - start\n"
        "heavy = {'torch', 'transformers', 'numpy', 'msgspec', 'click'}\n"
        "assert not heavy & {*sys.modules}, heavy & {*sys.modules}\n"
        "xs.Question, xs.World, xs.AgentConfig, xs.read_questions, xs.Passage, xs.Grammar\n"
        "assert not {'torch', 'transformers'} & {*sys.modules}\n"
        "print(seconds)"
    )
    taken = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(taken) < 0.1


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Wrld'"):
        _ = xs.Wrld  # type: ignore[attr-defined]


def test_all_stages_work_where_an_event_loop_runs(chat: ChatFormat, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """A notebook's cell is run by an event loop."""

    async def cell() -> None:
        agent = make_agent(chat)
        assert agent.answer(QUESTION).answer == "Ada Quill"
        stream = agent.stream(QUESTION.text)
        assert [step.evidence for step in stream] == ["Ada Quill founded it."]
        assert stream.answer == "Ada Quill"
        rollouts = xs.explore(agent, [QUESTION], tmp_path / "rollouts.jsonl", xs.ExploreConfig(samples=2))
        weights = xs.weigh(rollouts, [QUESTION])
        learned = xs.learn(tiny_checkpoint, rollouts, tmp_path / "learned", weights, xs.LearnConfig(epochs=1))
        assert (learned / "config.json").exists()
        assert xs.evaluate(agent, [QUESTION], tmp_path / "eval").figures["em"].mean == 1

    asyncio.run(cell())


def test_a_stream_tells_of_each_step_once_when_the_model_is_done_with_it(chat: ChatFormat) -> None:
    turns = ("<QUERY> one", "<FACT> first <QUERY> two", "<FACT> second <FINAL>", "Ada Quill")
    stream = make_agent(chat, turns).stream(QUESTION)
    first = next(iter(stream))
    assert (first.query, first.evidence) == ("one", "first")
    assert [(step.query, step.evidence) for step in stream] == [("two", "second")]
    assert stream.answer == "Ada Quill"
    assert list(stream) == []
    assert stream.trajectory.steps[0] == first


def test_the_last_step_of_a_trajectory_that_comes_to_nothing_is_told_without_evidence(chat: ChatFormat) -> None:
    stream = make_agent(chat, ("<QUERY> one", "nothing that the grammar knows")).stream(QUESTION)
    assert [step.evidence for step in stream] == [None]
    assert stream.answer is None
    assert stream.trajectory.stop_reason == "malformed"


def test_what_fails_within_a_stream_is_raised_where_it_is_read(chat: ChatFormat) -> None:
    agent = make_agent(chat, TURNS[:1])  # the script has no second turn
    with pytest.raises(IndexError):
        list(agent.stream(QUESTION))


def test_leaving_a_stream_early_stops_the_model(chat: ChatFormat) -> None:
    waits, cancelled = threading.Event(), threading.Event()

    class Endless(ScriptedEngine):
        async def generate(self, *arguments: Any) -> Any:
            if self.calls < 2:
                return await super().generate(*arguments)
            waits.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise EngineError("nobody stopped it")

    turns = ("<QUERY> one", "<FACT> first <QUERY> two")
    agent = SearchAgent(Endless(chat, lines(*turns)), StaticRetriever(PASSAGES), chat, xs.AgentConfig())
    stream = agent.stream(QUESTION)
    assert next(iter(stream)).query == "one"
    assert waits.wait(10)
    stream.close()
    assert cancelled.wait(10)
    with pytest.raises(xs.ExSearchError, match="closed before its end"):
        _ = stream.answer


def test_settings_made_in_python_are_checked_like_those_of_a_recipe(chat: ChatFormat, tmp_path: Path) -> None:
    agent = make_agent(chat)
    with pytest.raises(xs.UsageError, match="ExploreConfig: 'samples' must be at least 1, not 0"):
        xs.explore(agent, [QUESTION], tmp_path / "rollouts.jsonl", xs.ExploreConfig(samples=0))
    with pytest.raises(xs.UsageError, match=r"WeighConfig: 'weighting' must be one of"):
        xs.weigh([], [], xs.WeighConfig(weighting="papre"))  # type: ignore[arg-type]
    with pytest.raises(xs.UsageError, match=r"AgentConfig: 'passages' must be at least 1"):
        xs.load_agent("builtin:smollm2-135m", StaticRetriever(PASSAGES), xs.AgentConfig(passages=0))


def test_questions_made_in_python_are_checked_like_those_of_a_file(chat: ChatFormat, tmp_path: Path) -> None:
    agent = make_agent(chat)
    with pytest.raises(xs.UsageError, match="question 'q1': the id occurs twice"):
        xs.evaluate(agent, [QUESTION, QUESTION], tmp_path / "eval")
    with pytest.raises(xs.UsageError, match="the question is empty"):
        agent.answer("  ")
    assert not (tmp_path / "eval").exists()


def test_what_cannot_be_learned_is_refused_and_leaves_nothing(
    chat: ChatFormat, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    failed = make_agent(chat, ("no query",)).answer(QUESTION)
    with pytest.raises(xs.UsageError, match="has no answer to learn"):
        xs.learn(tiny_checkpoint, [failed], tmp_path / "learned")
    right = make_agent(chat).answer(QUESTION)
    with pytest.raises(xs.UsageError, match="trajectory q1/0 has no weight"):
        xs.learn(tiny_checkpoint, [right], tmp_path / "learned", [])
    assert not (tmp_path / "learned").exists()


def test_passages_become_a_corpus_beside_the_index_and_a_corpus_stays_where_it_is(tmp_path: Path) -> None:
    index = xs.build_index(PASSAGES, "bm25", tmp_path / "index", k1=0.9)
    assert index.search(["founded"], 1)[0][0].passage == PASSAGES[0]
    corpus = xs.Corpus.open(tmp_path / "index.corpus")
    for again in (corpus, corpus.folder, str(corpus.folder)):
        assert xs.build_index(again, "bm25", tmp_path / "other", k1=0.9).fingerprint == index.fingerprint


def test_a_run_is_made_opened_moved_and_asked(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world = xs.World(seed=4, passages=400)
    xs.build_index(world.passages(), "bm25", "run/index")
    file = tmp_path / "questions.jsonl"
    write_jsonl(file, world.questions("train", 8, [2]))
    config = xs.Config(
        model=xs.ModelConfig(path=str(tiny_checkpoint)),
        data=xs.DataConfig(index="run/index", train=str(file), dev=str(file), test=str(file)),
        agent=xs.AgentConfig(max_steps=2, turn_tokens=48),
        warmup=xs.WarmupConfig(questions=4, epochs=1),
        explore=xs.ExploreConfig(questions=2, samples=2),
        learn=xs.LearnConfig(warmup_mix=4),
        loop=xs.LoopConfig(iterations=1),
    )
    said: list[str] = []
    run = xs.train(config, tmp_path / "run", said.append)
    assert any("E-step of iter-1" in line for line in said)
    assert (tmp_path / "run" / "report.html").exists()
    opened = xs.Run(str(tmp_path / "run"))
    assert opened.config == run.config == config
    assert opened.summary.models == ["closed-book", "majority", "warmup", "iter-1"]
    assert opened.checkpoint() == opened.checkpoint(opened.summary.best)
    assert opened.evaluation("majority").figures["em"].n == 8
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    opened = xs.Run("../moved")
    with opened.load_agent("warmup") as agent:
        assert agent.config.max_steps == 2
        assert agent.answer("Who?").stop_reason in ("malformed", "answered", "max_steps")
    with pytest.raises(xs.UsageError, match="has no model 'iter-9'"):
        opened.checkpoint("iter-9")
    (tmp_path / "moved" / "summary.json").unlink()
    with pytest.raises(xs.UsageError, match="has not ended yet"):
        _ = opened.summary


def test_ctrl_c_ends_a_stream_in_a_script(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, threading, time\n"
        "from exsearch.processes import coroutines\n"
        "ended = threading.Event()\n"
        "async def begin(tell):\n"
        "    tell('first')\n"
        "    try:\n"
        "        await asyncio.sleep(60)\n"
        "    finally:\n"
        "        ended.set()\n"
        "try:\n"
        "    for item in coroutines.iterate(begin):\n"
        "        print(item, flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(0 if ended.wait(10) else 3)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(xs.UsageError, match="has no run"):
        xs.Run(tmp_path)


def test_a_closed_agent_says_so_and_closing_twice_is_harmless(chat: ChatFormat) -> None:
    with make_agent(chat) as agent:
        assert agent.answer(QUESTION).answer == "Ada Quill"
        agent.close()
    for use in (agent.answer, lambda question: agent.stream(question).answer):
        with pytest.raises(xs.UsageError, match="the agent is closed; load it again"):
            use(QUESTION)


class PausingEngine(ScriptedEngine):
    """Waits before its last turn until it may go on."""

    def __init__(self, chat: ChatFormat) -> None:
        super().__init__(chat, lines(*TURNS))
        self.may_go_on = threading.Event()

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        while self.calls == len(TURNS) - 1 and not self.may_go_on.is_set():
            await asyncio.sleep(0.01)
        return await super().generate(prompt, sampling, seed)


def test_an_agent_in_a_stream_refuses_other_questions_until_it_ends(chat: ChatFormat) -> None:
    engine = PausingEngine(chat)
    agent = SearchAgent(engine, StaticRetriever(PASSAGES), chat, xs.AgentConfig())
    stream = agent.stream(QUESTION)
    assert next(iter(stream)).query
    with pytest.raises(xs.UsageError, match="the agent is in use, by a stream or another thread"):
        agent.answer(QUESTION)
    engine.may_go_on.set()
    assert stream.answer == agent.answer(QUESTION).answer == "Ada Quill"


def test_settings_of_another_section_are_refused_by_name(chat: ChatFormat, tmp_path: Path) -> None:
    agent, wrong = make_agent(chat), xs.WeighConfig()
    calls = {
        "ExploreConfig": lambda: xs.explore(agent, [QUESTION], tmp_path / "r.jsonl", wrong),  # type: ignore[arg-type]
        "WeighConfig": lambda: xs.weigh([], [QUESTION], xs.ExploreConfig()),  # type: ignore[arg-type]
        "AgentConfig": lambda: xs.load_agent("model", "index", wrong),  # type: ignore[arg-type]
        "RolloutConfig": lambda: xs.load_agent("model", "index", rollout=wrong),  # type: ignore[arg-type]
        "Config": lambda: xs.train({"seed": 1}, tmp_path / "run"),  # type: ignore[arg-type]
    }
    for name, call in calls.items():
        with pytest.raises(xs.UsageError, match=f"given, {name} expected"):
            call()


def test_an_index_that_is_none_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(xs.UsageError, match="int given as an index, which needs a `fingerprint` and a method `search`"):
        xs.load_agent(tmp_path / "absent", 5)  # type: ignore[arg-type]


def test_settings_that_only_a_whole_run_honours_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = xs.LearnConfig(replay="decay", orders=2)
    with pytest.raises(xs.UsageError, match=r"learn\.replay, learn\.orders: only a whole run"):
        xs.learn(tiny_checkpoint, [], tmp_path / "out", [], config)
    with pytest.raises(xs.UsageError, match="nothing to learn from: no trajectory has a weight"):
        xs.learn(tiny_checkpoint, [], tmp_path / "out", [])


def test_questions_that_were_read_already_are_named_as_the_mistake(names: dict[str, Any]) -> None:
    exhausted = iter(())
    with pytest.raises(xs.UsageError, match="can be read only once"):
        xs.weigh(names["rollouts"], exhausted)


def test_no_passages_are_one_error_without_a_temporary_name(tmp_path: Path) -> None:
    with pytest.raises(xs.UsageError, match=r"^there are no passages to write$"):
        xs.build_index(iter(()), "bm25", tmp_path / "index")
