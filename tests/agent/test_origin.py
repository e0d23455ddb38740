"""A journal knows what its trajectories depend on: no old result passes for a new one, and nothing else is refused."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exsearch.agent.chat import ChatFormat
from exsearch.agent.experiment import Experiment
from exsearch.agent.journal import Journals, first_samples
from exsearch.agent.loading import model_settings, resumable_retriever
from exsearch.agent.origin import Origin, origin_of, origin_path
from exsearch.agent.ray_agents import agreed
from exsearch.agent.rollout import CHAT_FORMAT, Agent, Draw
from exsearch.agent.trajectory import Cost, Trajectory
from exsearch.cli.main import exsearch
from exsearch.config import AgentConfig, Config, ExploreConfig, RolloutConfig, WeighConfig, parse_config
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, read_jsonl, write_json, write_jsonl
from exsearch.core.locks import sole_writer
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.effects import EFFECTS, HOW_MANY, Settings, on_each
from exsearch.em.explore import draw_of, explore
from exsearch.em.weigh import weigh
from exsearch.engine.openai.endpoint import Endpoint
from exsearch.evaluation.evaluate import GREEDY, Evaluation, evaluate
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.judge import judge
from exsearch.evaluation.protocol import make_protocol
from exsearch.evaluation.scores import read_scores
from exsearch.questions.question import Question
from exsearch.retrieval.index.build import build_index
from exsearch.runs.weighted import Weighted
from other_settings import DEFAULTS, another
from scripted import ScriptedEngine, StaticRetriever
from scripted_exploration import QUESTIONS, by_seed, timeless

AGENT = AgentConfig(max_steps=2, passages=1, turn_tokens=16, context=512)
EXPLORE = ExploreConfig(samples=3)
PASSAGES = [Passage("a", "A", "text"), Passage("b", "B", "more text")]


def make_agent(chat: ChatFormat, config: AgentConfig = AGENT, limits: RolloutConfig | None = None) -> Agent:
    return Agent(ScriptedEngine(chat, by_seed), StaticRetriever(PASSAGES), chat, config, limits)


def calls(agent: Agent) -> int:
    assert isinstance(agent.engine, ScriptedEngine)
    return agent.engine.calls


@pytest.fixture
def journal(chat: ChatFormat, tmp_path: Path) -> Path:
    explore(make_agent(chat), QUESTIONS, EXPLORE, 3, tmp_path / "rollouts.jsonl")
    return tmp_path / "rollouts.jsonl"


def refused(agent: Agent, journal: Path, named: str, questions: list[Question] = QUESTIONS, **explored: Any) -> None:
    """Expect that the journal is not continued, that what differs is named, and that nothing is touched."""
    before = {path.name: path.read_bytes() for path in journal.parent.iterdir()}
    with pytest.raises(UsageError) as error:
        explore(agent, questions, msgspec.structs.replace(EXPLORE, **explored), 3, journal)
    assert named in str(error.value) and "\n" not in str(error.value)
    assert calls(agent) == 0
    assert {path.name: path.read_bytes() for path in journal.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_steps": 3}, "agent.max_steps = 2 -> 3"),
        ({"passages": 2}, "agent.passages = 1 -> 2"),
        ({"turn_tokens": 17}, "agent.turn_tokens = 16 -> 17"),
        ({"passage_tokens": 50}, "agent.passage_tokens = 160 -> 50"),
        ({"context": 600}, "agent.context = 512 -> 600"),
        ({"repeated": "next"}, 'agent.repeated = "same" -> "next"'),
        ({"prompt": "Say {question}"}, 'agent.prompt = "" -> "Say {question}"'),
        ({"grammar": "self-ask"}, 'agent.grammar = "exsearch" -> "self-ask"'),
    ],
)
def test_an_exploration_of_an_agent_with_other_settings_is_refused_by_name(
    chat: ChatFormat, journal: Path, change: dict[str, Any], named: str
) -> None:
    refused(
        make_agent(chat, msgspec.structs.replace(AGENT, **change)),
        journal,
        f"made with other settings: {named}. Restore them",
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"temperature": 0.7}, "explore.temperature = 1.0 -> 0.7"),
        ({"top_p": 0.9}, "explore.top_p = 1.0 -> 0.9"),
        ({"score_opening": True}, "explore.score_opening = false -> true"),
        ({"score_steps": True}, "explore.score_steps = false -> true"),
        ({"branches": 2}, "explore.branches = 1 -> 2"),
    ],
)
def test_an_exploration_that_draws_otherwise_is_refused_by_name(
    chat: ChatFormat, journal: Path, change: dict[str, Any], named: str
) -> None:
    refused(make_agent(chat), journal, named, **change)


def test_an_exploration_with_another_seed_model_index_or_template_is_refused_by_name(
    chat: ChatFormat, journal: Path
) -> None:
    agent = make_agent(chat)
    with pytest.raises(UsageError, match="seed = 3 -> 4"):
        explore(agent, QUESTIONS, EXPLORE, 4, journal)
    agent.settings["model.path"] = "other"
    refused(agent, journal, "model.path, which meant scripted and now means other")
    agent = make_agent(chat)
    agent.settings["data.index"] = "other"
    refused(agent, journal, "data.index, which meant static and now means other")
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.chat_template = str(tokenizer.chat_template).replace("You are", "It is the 3rd of May. You are", 1)
    refused(make_agent(ChatFormat(tokenizer)), journal, "chat format, which meant ")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("text", "Which is number 2?", """question 'q2', text = "What is number 2?" -> "Which is number 2?\""""),
        ("answers", ["two"], """question 'q2', answers = ["the 2th"] -> ["two"]"""),
        ("answers", ["the 2th", "two"], """question 'q2', answers = ["the 2th"] -> ["the 2th","two"]"""),
    ],
)
def test_another_question_of_the_same_id_is_refused_by_name(
    chat: ChatFormat, journal: Path, field: str, value: Any, named: str
) -> None:
    questions = [msgspec.structs.replace(q, **{field: value}) if q.id == "q2" else q for q in QUESTIONS]
    refused(make_agent(chat), journal, named, questions)


def test_weights_are_not_made_by_other_answers_than_were_scored(
    chat: ChatFormat, journal: Path, tmp_path: Path
) -> None:
    words = ["weigh", str(journal), str(tmp_path / "q.jsonl"), "--out", str(tmp_path / "w.jsonl")]
    write_jsonl(tmp_path / "q.jsonl", [msgspec.structs.replace(q, answers=[*q.answers, "more"]) for q in QUESTIONS])
    with pytest.raises(UsageError, match=r"question 'q0', answers = \[\"the 0th\"\] -> \[\"the 0th\",\"more\"\]"):
        exsearch(words, standalone_mode=False)
    assert not (tmp_path / "w.jsonl").exists()
    write_jsonl(tmp_path / "q.jsonl", QUESTIONS)
    exsearch(words, standalone_mode=False)
    assert len(list(read_jsonl(tmp_path / "w.jsonl", Weighted))) == 3 * len(QUESTIONS)


def test_long_values_are_shown_where_they_differ(chat: ChatFormat, journal: Path, tmp_path: Path) -> None:
    first, second = (msgspec.structs.replace(AGENT, prompt="Say it. " * 60 + f"{end} {{question}}") for end in "ab")
    explore(make_agent(chat, first), QUESTIONS[:1], EXPLORE, 3, tmp_path / "long.jsonl")
    with pytest.raises(UsageError) as error:
        explore(make_agent(chat, second), QUESTIONS[:1], EXPLORE, 3, tmp_path / "long.jsonl")
    assert "Say it. a {question}" in str(error.value) and "Say it. b {question}" in str(error.value)
    assert len(str(error.value)) < 600


def test_what_changes_no_trajectory_is_never_refused(chat: ChatFormat, journal: Path) -> None:
    before = read_json(origin_path(journal), Origin)
    limits = RolloutConfig(in_flight=2, turn_seconds=9, search_seconds=9, search_retries=0, trajectory_seconds=99)
    questions = [msgspec.structs.replace(q, type="other", gold_passages=["x"], hops=3) for q in QUESTIONS]
    agent = make_agent(chat, limits=limits)
    found = explore(agent, [*questions, Question("new", "Who?", ["x"])], EXPLORE, 3, journal)
    assert {t.question_id for t in found} == {"new", *(q.id for q in QUESTIONS)}
    asked = calls(agent)
    more = explore(agent, QUESTIONS, msgspec.structs.replace(EXPLORE, samples=4), 3, journal)
    assert len(more) == 4 * len(QUESTIONS) and calls(agent) > asked
    assert explore(agent, QUESTIONS, msgspec.structs.replace(EXPLORE, samples=2), 3, journal) == more
    after = read_json(origin_path(journal), Origin)
    assert after.settings == before.settings and set(after.questions) == {*before.questions, "new"}


def wanted(config: Config) -> Origin:
    """What an exploration with this config depends on, but for contents."""
    return origin_of(
        model_settings(config.model) | on_each("agent", config.agent), draw_of(config.explore, config.seed), []
    )


@pytest.mark.parametrize("engine", ["transformers", "openai"])
@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_a_journal_depends_on_exactly_the_settings_that_change_a_trajectory(key: str, engine: str) -> None:
    base = parse_config({"model": {"engine": engine, "precision": "fp32"}}, [], "test")
    section, _, name = key.rpartition(".")
    value = getattr(getattr(another(key), section), name) if section else getattr(another(key), name)
    if value == (getattr(getattr(base, section), name) if section else getattr(base, name)):
        pytest.skip("the other value is the one of this test")
    changed = parse_config(
        {"model": {"engine": engine, "precision": "fp32", **({name: value} if section == "model" else {})}}
        | ({section: {name: value}} if section not in ("", "model") else {} if section else {name: value}),
        [],
        "test",
    )
    depends = EFFECTS[key] == "result" and (section in ("agent", "explore") or key == "seed") and key not in HOW_MANY
    depends |= key in ("model.engine", "model.precision" if engine == "transformers" else "")
    depends |= engine == "openai" and key in ("model.name", "model.api", "model.retokenise")
    assert (wanted(base) != wanted(changed)) == depends


def test_a_setting_that_came_later_had_its_default_before(chat: ChatFormat, journal: Path) -> None:
    kept = read_json(origin_path(journal), Origin)
    del kept.settings["agent.repeated"]
    kept.settings["agent.dropped"] = 7
    write_json(origin_path(journal), kept)
    agent = make_agent(chat)
    explore(agent, QUESTIONS, EXPLORE, 3, journal)
    assert calls(agent) == 0
    write_json(origin_path(journal), kept)
    refused(make_agent(chat, msgspec.structs.replace(AGENT, repeated="next")), journal, 'repeated = "same" -> "next"')


def test_a_journal_of_an_earlier_version_is_continued_with_one_warning(
    chat: ChatFormat, journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = list(read_jsonl(journal, Trajectory))
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:7]))
    origin_path(journal).unlink()
    for warned in (True, False):
        found = explore(make_agent(chat), QUESTIONS, EXPLORE, 3, journal)
        assert timeless(found) == timeless(expected)
        assert caplog.text.count("by an earlier version") == warned, "then it is known"
        caplog.clear()


@pytest.mark.parametrize(
    ("config", "question", "named"),
    [
        ({}, {"text": "Another?"}, "another text of question 'q0'"),
        ({}, {"answers": ["another"]}, "other answers to question 'q"),
        ({"prompt": "Say {question}"}, {}, "another text of question 'q0', or another prompt or chat template"),
        ({"max_steps": 1}, {}, "another agent.max_steps, 2 or more, not 1"),
        ({"grammar": "self-ask"}, {}, "grammar exsearch, not self-ask"),
    ],
)
def test_what_the_trajectories_of_an_earlier_version_tell_is_refused(
    chat: ChatFormat, journal: Path, config: dict[str, Any], question: dict[str, Any], named: str
) -> None:
    origin_path(journal).unlink()
    questions = [msgspec.structs.replace(q, **question) for q in QUESTIONS]
    refused(make_agent(chat, msgspec.structs.replace(AGENT, **config)), journal, named, questions)


def test_fewer_passages_than_an_earlier_version_read_are_refused(chat: ChatFormat, tmp_path: Path) -> None:
    explore(make_agent(chat, msgspec.structs.replace(AGENT, passages=2)), QUESTIONS, EXPLORE, 3, tmp_path / "j.jsonl")
    origin_path(tmp_path / "j.jsonl").unlink()
    refused(make_agent(chat), tmp_path / "j.jsonl", "another agent.passages, 2 or more, not 1")


def test_an_evaluation_is_not_made_of_samples_nor_of_another_precision(chat: ChatFormat, tmp_path: Path) -> None:
    def scores(agent: Agent, config: AgentConfig = AGENT) -> None:
        evaluate(agent, [Evaluation(tmp_path, QUESTIONS, make_protocol(config, "static", QUESTIONS))], "m", "evaluate")

    explore(make_agent(chat), QUESTIONS, ExploreConfig(samples=1), 0, tmp_path / TRAJECTORIES)
    with pytest.raises(UsageError, match=r"explore\.temperature = 1\.0 -> 0\.0"):
        scores(make_agent(chat))
    assert not (tmp_path / "protocol.json").exists()
    (tmp_path / TRAJECTORIES).unlink()
    agent = make_agent(chat)
    agent.settings["model.precision"] = "float32"
    scores(agent)
    agent.settings["model.precision"] = "bfloat16"
    with pytest.raises(UsageError, match=r"model\.precision, which meant float32 and now means bfloat16"):
        scores(agent)
    other = msgspec.structs.replace(AGENT, passages=2)
    with pytest.raises(UsageError, match=r"agent\.passages = 1 -> 2"):
        scores(make_agent(chat, other), other)


def test_an_evaluation_of_an_earlier_version_names_what_its_protocol_has_otherwise(
    chat: ChatFormat, tmp_path: Path
) -> None:
    protocol = make_protocol(AGENT, "static", QUESTIONS)
    evaluate(make_agent(chat), [Evaluation(tmp_path, QUESTIONS, protocol)], "m", "evaluate")
    origin_path(tmp_path / TRAJECTORIES).unlink()
    for config, named in (
        (msgspec.structs.replace(AGENT, max_steps=4), "agent.max_steps = 2 -> 4"),
        (msgspec.structs.replace(AGENT, repeated="next"), 'agent.repeated = none -> "next"'),
        (msgspec.structs.replace(AGENT, grammar="self-ask"), 'method = "exsearch" -> "self-ask"'),
    ):
        other = make_protocol(config, "static", QUESTIONS)
        with pytest.raises(UsageError, match="another protocol") as error:
            evaluate(make_agent(chat), [Evaluation(tmp_path, QUESTIONS, other)], "m", "evaluate")
        assert named in str(error.value)


def test_ray_workers_that_would_not_find_the_same_are_refused_by_name() -> None:
    told: Settings = {"model.path": "m", "model.precision": "bfloat16"}
    assert agreed([told, dict(told), dict(told)]) == told
    with pytest.raises(UsageError, match=r'Ray workers 1 and 3 .*model\.precision = "bfloat16" -> "float32"'):
        agreed([told, told, told | {"model.precision": "float32"}])


@pytest.mark.parametrize(("begun", "of"), [(0, "spellings"), (2, "mixed"), (5, "aliases")])
def test_what_an_earlier_version_scored_by_aliases_alone_is_never_said_to_be_of_spellings(
    chat: ChatFormat, tmp_path: Path, begun: int, of: str
) -> None:
    path = tmp_path / TRAJECTORIES
    evaluation = [Evaluation(tmp_path, QUESTIONS, make_protocol(AGENT, "static", QUESTIONS))]
    evaluate(make_agent(chat), evaluation, "m", "evaluate")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:begun]))
    origin_path(path).unlink()
    for _ in range(2):  # and what is known of it stays known
        [scores] = evaluate(make_agent(chat), evaluation, "m", "evaluate")
        assert scores.likelihood_of == read_scores(tmp_path).likelihood_of == of


def test_the_words_of_a_teacher_do_not_depend_on_the_student_nor_on_the_gold_answers(
    chat: ChatFormat, tmp_path: Path
) -> None:
    """What was paid for stays: no teacher sees the student's tokens, or an answer."""
    agent, draw = make_agent(chat), Draw(0, 1.0)
    settings = {key: value for key, value in agent.settings.items() if key != CHAT_FORMAT}
    path = tmp_path / "w.teacher.jsonl"
    with Journals(agent, {path: QUESTIONS}, draw, settings=settings) as journals:
        journals.roll_out(first_samples(1), 1, "teacher")
    corrected = [msgspec.structs.replace(question, answers=["x"]) for question in QUESTIONS]
    agent.settings[CHAT_FORMAT] = "another"
    with Journals(agent, {path: corrected}, draw, settings=settings) as journals:
        assert all(len(found) == 1 for found in journals.found(path).values())


# Two processes.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    build_index(write_corpus(folder / "corpus", PASSAGES), "bm25", folder / "index")
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    return folder


HELD = rf": process {os.getpid()} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S*, is writing it; wait"


def test_a_journal_that_another_process_writes_is_left_alone(chat: ChatFormat, journal: Path, tmp_path: Path) -> None:
    with sole_writer(journal), pytest.raises(UsageError, match=rf"rollouts\.jsonl{HELD}"):
        explore(make_agent(chat), QUESTIONS, EXPLORE, 3, journal)
    evaluation = Evaluation(tmp_path / "e", QUESTIONS, make_protocol(AGENT, "static", QUESTIONS))
    with sole_writer(tmp_path / "e" / TRAJECTORIES), pytest.raises(UsageError, match=rf"trajectories\.jsonl{HELD}"):
        evaluate(make_agent(chat), [evaluation], "m", "evaluate")
    endpoint = Endpoint("http://127.0.0.1:9/v1", None, 1.0)
    with sole_writer(tmp_path / "v.jsonl"), pytest.raises(UsageError, match=HELD):
        judge(endpoint, "m", QUESTIONS, ["x"] * 5, tmp_path / "v.jsonl")
    with (
        sole_writer(tmp_path / "w.jsonl"),
        pytest.raises(UsageError, match=HELD),
        resumable_retriever(Experiment(Config()), tmp_path / "w.jsonl"),
    ):
        pass
    assert not [path for path in tmp_path.rglob(".*") if path.suffix == ".lock"]


@pytest.mark.parametrize("verb", ["explore", "eval"])
def test_what_is_refused_is_so_before_a_model_is_loaded(
    folder: Path, tmp_path: Path, chat: ChatFormat, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def unwanted(*arguments: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("exsearch.agent.agents.load_agents", unwanted)
    path = tmp_path / "j.jsonl" if verb == "explore" else tmp_path / "e" / TRAJECTORIES
    draw = draw_of(EXPLORE, 0) if verb == "explore" else GREEDY
    with Journals(make_agent(chat), {path: QUESTIONS[:1]}, draw) as journals:
        journals.roll_out(first_samples(1), 1, "test")
    words = [str(folder / "questions.jsonl"), "--out", str(tmp_path / "j.jsonl")]
    if verb == "eval":
        words = ["--questions", str(folder / "questions.jsonl"), "--out", str(tmp_path / "e")]
    words = [verb, *words, "--index", str(folder / "index")]
    for key in ("max_steps", "passages", "turn_tokens", "context"):
        words += ["--set", f"agent.{key}={getattr(AGENT, key) + (key == 'passages')}"]
    with sole_writer(path), pytest.raises(UsageError, match=HELD):
        exsearch(words, standalone_mode=False)
    with pytest.raises(UsageError, match=r"agent\.passages = 1 -> 2\."):
        exsearch(words, standalone_mode=False)


@pytest.mark.parametrize("verb", ["train", "quickstart", "warmup", "world"])
def test_a_folder_that_another_process_writes_is_left_alone(
    folder: Path, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    out = tmp_path / "out"
    (tmp_path / "recipe.toml").write_text("title = 'x'\n")
    monkeypatch.setattr("exsearch.warmup.write.are_trajectories", lambda path: True)
    monkeypatch.setattr("exsearch.warmup.write.read_warmup", lambda path, chat: [])
    words = {
        "train": ["train", tmp_path / "recipe.toml"],
        "quickstart": ["quickstart"],
        "warmup": ["warmup", folder / "questions.jsonl", "--model", tiny_checkpoint],
        "world": ["corpus", "world", "--passages", 200, "--seed", 1],
    }
    with sole_writer(out), pytest.raises(UsageError, match=rf"out{HELD}"):
        exsearch([*map(str, words[verb]), "--out", str(out)], standalone_mode=False)
    assert not out.exists()


def doubled(journal: Path, change: Callable[[dict[str, Any]], None]) -> list[bytes]:
    """Write every other line again, as another process may have it; return the journal's own lines."""
    lines = journal.read_bytes().splitlines(keepends=True)
    both = []
    for number, line in enumerate(lines):
        again = json.loads(line)
        change(again)
        both += [line] if number % 2 else [line, json.dumps(again).encode() + b"\n"]
    journal.write_bytes(b"".join(both))
    return lines


def test_what_two_processes_wrote_twice_is_kept_once_and_the_rest_set_aside(
    chat: ChatFormat, journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = doubled(journal, lambda record: record["cost"].update(model_seconds=9.0))
    with pytest.raises(UsageError, match=r"q\d/\d occurs twice, drawn from one seed: two processes"):
        weigh(list(read_jsonl(journal, Trajectory)), QUESTIONS, WeighConfig())
    agent = make_agent(chat)
    explore(agent, QUESTIONS, EXPLORE, 3, journal)
    assert calls(agent) == 0 and journal.read_bytes() == b"".join(lines)
    aside = list(read_jsonl(journal.with_name("rollouts.jsonl.doubled"), Trajectory))
    assert len(aside) == 8 and all(each.cost.model_seconds == 9.0 for each in aside)
    assert "8 duplicate trajectories" in caplog.text
    assert weigh(list(read_jsonl(journal, Trajectory)), QUESTIONS, WeighConfig())


def test_of_branches_written_twice_those_of_one_process_are_kept(chat: ChatFormat, tmp_path: Path) -> None:
    config = ExploreConfig(samples=3, branches=3, branch_gain=0.2)
    agent = make_agent(chat)
    found = explore(agent, QUESTIONS, config, 3, tmp_path / "j.jsonl")
    families: dict[tuple[str, int], list[Trajectory]] = {}
    for each in read_jsonl(tmp_path / "j.jsonl", Trajectory):
        families.setdefault((each.question_id, each.sample), []).append(each)
    assert {len(family) for family in families.values()} == {1, 3}
    # of each the other process has drawn what came out without branches
    others = [[msgspec.structs.replace(family[-1], share=1.0, cost=Cost())] for family in families.values()]
    pairs = zip(families.values(), others, strict=True)
    write_jsonl(tmp_path / "j.jsonl", [each for pair in pairs for family in pair for each in family])
    assert timeless(explore(agent, QUESTIONS, config, 3, tmp_path / "j.jsonl")) == timeless(found)
    pairs = zip(others, families.values(), strict=True)
    write_jsonl(tmp_path / "j.jsonl", [each for pair in pairs for family in pair for each in family])
    kept = explore(agent, QUESTIONS, config, 3, tmp_path / "j.jsonl")
    assert len(kept) == len(families) and {each.share for each in kept} == {1.0}


@pytest.mark.slow
def test_of_two_explorations_started_at_once_one_works_and_the_other_says_so(
    folder: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    words = [folder / "questions.jsonl", "--index", folder / "index", "--model", tiny_checkpoint]
    words += ["--out", tmp_path / "j.jsonl", "--set", "explore.samples=8", "--set", "model.data_parallel=1"]
    command = [sys.executable, "-m", "exsearch.cli.main", "explore", *map(str, words)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    [first] = [process for process in both if process.returncode == 0]
    [line] = [text for text, process in zip(told, both, strict=True) if process.returncode == 2]
    assert f"process {first.pid} on " in line and "is writing it" in line
    found = [(each.question_id, each.sample) for each in read_jsonl(tmp_path / "j.jsonl", Trajectory)]
    assert len(found) == len(set(found)) == 8 * len(QUESTIONS)
