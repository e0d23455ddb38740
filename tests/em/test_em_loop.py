"""The EM loop as other programs use it: in their own process."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exsearch.agent import chat as chat_module
from exsearch.agent import experiment
from exsearch.agent.agents import Agents
from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.config import Config, parse_config
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.em import engine_keeper, loop, replay
from exsearch.em.loop import EMRun
from exsearch.evaluation import protocol
from exsearch.evaluation.scores import read_scores, write_scores
from exsearch.retrieval.index.build import build_index
from exsearch.runs.folder import RunFolder
from exsearch.world import World


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """The settings of an index of a world, and of questions about it."""
    world = World(seed=4, passages=400)
    index = build_index(write_corpus(tmp_path / "corpus", world.passages()), "bm25", tmp_path / "index")
    write_jsonl(tmp_path / "questions.jsonl", world.questions("train", 8, [2]))
    return {"index": str(index), **dict.fromkeys(("train", "dev", "test"), str(tmp_path / "questions.jsonl"))}


def short_run(data: dict[str, str], model: Path) -> Config:
    """The settings of a run of one iteration."""
    settings = ["warmup.questions=4", "warmup.epochs=1", "explore.questions=2", "explore.samples=2"]
    settings += ["learn.warmup_mix=4", "loop.iterations=1", "agent.max_steps=2", "agent.turn_tokens=48"]
    return parse_config({"data": data, "model": {"path": str(model)}}, settings, "test")


def test_p_answer_is_told_of_no_model_where_an_earlier_version_scored_some_otherwise(
    data: dict[str, str], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    config, root, said = short_run(data, tiny_checkpoint), tmp_path / "run", list[str]()
    assert EMRun(config, root, said.append).run().train_answer_probability.keys() == {"warmup", "iter-1"}
    earlier = RunFolder(root).train_eval("warmup")
    write_scores(earlier, msgspec.structs.replace(read_scores(earlier), likelihood_of="aliases"))
    assert not any("aliases only" in line for line in said)
    assert EMRun(config, root, said.append).run().train_answer_probability == {}
    assert "p(answer) is not reported" in said[-1]


def test_no_engine_is_left_when_the_loop_ends_or_fails(
    data: dict[str, str], tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    load = engine_keeper.load_agents

    def watched(*words: Any) -> Agents:
        agents = load(*words)
        close = agents.close
        monkeypatch.setattr(agents, "close", lambda: (events.append("closed"), close()))
        events.append("loaded")
        return agents

    monkeypatch.setattr(engine_keeper, "load_agents", watched)
    config = short_run(data, tiny_checkpoint)
    with monkeypatch.context() as failing:
        failing.setattr(loop, "weigh", lambda *words: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            EMRun(config, tmp_path / "run", lambda line: None).run()
    assert events.count("loaded") == events.count("closed") > 0
    EMRun(config, tmp_path / "run", lambda line: None).run()
    assert events.count("loaded") == events.count("closed")


@pytest.mark.parametrize(
    ("setting", "needed"),
    [
        ("weigh.gate_gain=1.0", r"weigh\.gate_gain needs explore\.score_opening"),
        ("learn.step_credit=1.0", r"learn\.step_credit needs explore\.score_steps"),
    ],
)
def test_scores_that_exploring_will_not_bring_are_missed_at_once(tmp_path: Path, setting: str, needed: str) -> None:
    data = dict.fromkeys(("index", "train", "dev", "test"), str(tmp_path / "nothing is read"))
    with pytest.raises(UsageError, match=needed):
        EMRun(parse_config({"data": data}, [setting], "test"), tmp_path / "run", lambda line: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_run_is_not_continued_with_other_questions_under_the_same_name(
    data: dict[str, str], tmp_path: Path, tiny_checkpoint: Path, split: str
) -> None:
    changed = tmp_path / "changed.jsonl"
    changed.write_bytes((tmp_path / "questions.jsonl").read_bytes())
    data[split] = str(changed)
    config = parse_config({"data": data, "model": {"path": str(tiny_checkpoint)}}, ["warmup.questions=0"], "test")
    EMRun(config, tmp_path / "run", lambda line: None)
    EMRun(config, tmp_path / "run", lambda line: None)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    write_jsonl(changed, World(seed=5, passages=400).questions("train", 8, [2]))
    with pytest.raises(UsageError, match=rf"holds a run with other questions in data\.{split}"):
        EMRun(config, tmp_path / "run", lambda line: None)
    assert {path: path.read_bytes() for path in before} == before


def test_an_iteration_is_not_learned_from_what_an_outage_has_left(
    data: dict[str, str], tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config({"data": data, "model": {"path": str(tiny_checkpoint)}}, ["warmup.questions=0"], "test")
    said: list[str] = []
    run = EMRun(config, tmp_path / "run", said.append)
    made = [Trajectory("q", n, [], None, StopReason.MALFORMED, [], [], [], None, 0, "m", "i") for n in range(10)]
    down = msgspec.structs.replace(made[0], stop_reason=StopReason.RETRIEVAL_FAILED, stop_detail="no route")
    monkeypatch.setattr(loop, "explore", lambda *words, **named: [down, *made[1:]])
    monkeypatch.setattr(loop, "weigh", lambda *words: [])
    run.e_step("iter-1", 1, "warmup")
    assert said[-1] == "1 of 10 trajectories failed, the first, of 'q', with: no route. They get weight 0."
    monkeypatch.setattr(loop, "explore", lambda *words, **named: [down, down, *made[2:]])
    run.folder.weights("iter-1").unlink()
    with pytest.raises(ExSearchError, match=r"2 of 10 trajectories failed.*Run the same command again to repeat these"):
        run.e_step("iter-1", 1, "warmup")
    assert not run.folder.weights("iter-1").exists()


def test_what_the_e_step_has_made_is_read_from_disk_by_a_later_start_alone(
    data: dict[str, str], tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, root, found = short_run(data, tiny_checkpoint), tmp_path / "run", list[str]()
    read = replay.read_jsonl
    monkeypatch.setattr(replay, "read_jsonl", lambda path, kind: (found.append(path.name), read(path, kind))[1])
    EMRun(config, root, lambda line: None).run()
    assert not found
    checkpoint = root / "iter-1" / "checkpoint"
    learned = (checkpoint / "model.safetensors").read_bytes()
    shutil.rmtree(checkpoint)
    EMRun(config, root, lambda line: None).run()
    assert found == ["trajectories.jsonl"]
    assert (checkpoint / "model.safetensors").read_bytes() == learned


def test_what_settings_name_is_found_once_per_start(
    data: dict[str, str], tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(where: Any, name: str) -> None:
        call = getattr(where, name)
        monkeypatch.setattr(where, name, lambda *words, **named: (calls.append(name), call(*words, **named))[1])

    for module in (experiment, chat_module, protocol):
        counted(module, "make_grammar")
    counted(experiment, "open_located")
    counted(experiment, "resolve_model")
    load, folders = ChatFormat.load, list[Path]()
    monkeypatch.setattr(ChatFormat, "load", lambda folder, *words: (folders.append(folder), load(folder, *words))[1])
    EMRun(short_run(data, tiny_checkpoint), tmp_path / "run", lambda line: None).run()
    assert sorted(calls) == ["make_grammar", "make_grammar", "open_located", "resolve_model"], "and closed-book's"
    own = [tmp_path / "run" / "warmup", tmp_path / "run" / "iter-1" / "checkpoint"]
    assert set(folders) == {tiny_checkpoint, *own} and folders.count(tiny_checkpoint) == 1
