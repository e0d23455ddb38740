"""`exsearch data warmup --teacher`: a stronger model plays the agent; what it did is checked, counted and kept."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import ExSearchGrammar
from exsearch.agent.trajectory import Trajectory
from exsearch.cli.main import exsearch
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.warmup.teacher import RULES, example_messages
from exsearch.warmup.write import read_warmup
from scripted_server import Asked, Reply, Scripted, as_json, serving

TOWNS = ["Tarn", "Velm", "Orsk", "Hult", "Brae", "Nyll"]
NAMES = ["Ilse", "Olaf", "Runa", "Sven", "Tove", "Ulf"]
USAGE = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 40}}
Say = Callable[[str, int, str], str]
"""From a name, the number of the turn and the last user turn to what the teacher says."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Who was born where: a passage each, and a question each."""
    folder = tmp_path_factory.mktemp("teacher")
    pairs = list(zip(NAMES, TOWNS, strict=True))
    passages = [Passage(name, name, f"{name} was a sailor. {name} was born in {town}.") for name, town in pairs]
    build_index(write_corpus(folder / "corpus", passages), "bm25", folder / "index")
    questions = [{"id": name, "text": f"Where was {name} born?", "answers": [town]} for name, town in pairs]
    write_jsonl(folder / "questions.jsonl", questions)
    return folder


def well(name: str, turn: int, shown: str) -> str:
    """What a good teacher says."""
    town = TOWNS[NAMES.index(name)]
    return [f"<QUERY> {name} birthplace", f"<FACT> {name} was born in {town}. <FINAL>", f"{town}."][turn]


def answering(say: Say) -> Callable[[Asked], Reply]:
    """A server with a teacher that says this."""
    example = len(example_messages(ExSearchGrammar()))

    def reply(asked: Asked) -> Reply:
        messages = asked[2]["messages"][example:]
        [name] = re.findall(r"Where was (\w+) born", messages[0]["content"])
        said = say(name, len(messages) // 2, messages[-1]["content"])
        return as_json(
            {"choices": [{"message": {"content": said}, "finish_reason": "stop"}], "usage": USAGE},
        )

    return reply


Ask = Callable[..., tuple[list[Trajectory], dict[str, Any]]]


@pytest.fixture
def ask(folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that runs the command with a server as teacher: trajectories and report."""

    def run(server: Scripted, out: Path, *more: object) -> tuple[list[Trajectory], dict[str, Any]]:
        words = [folder / "questions.jsonl", "--index", folder / "index", "--model", tiny_checkpoint, "--out", out]
        words += ["--teacher", f"http://{server.address}/v1", "--teacher-model", "big", "--json", *more]
        capsys.readouterr()
        exsearch(["data", "warmup", *map(str, words)], standalone_mode=False)
        return list(read_jsonl(out, Trajectory)), json.loads(capsys.readouterr().out)

    return run


def test_a_good_teacher_s_trajectories_are_written_with_our_tokens(tmp_path: Path, ask: Ask, chat: ChatFormat) -> None:
    with serving(answering(well)) as server:
        written, report = ask(server, tmp_path / "w.jsonl", "--price", "2,10")
    assert [(t.question_id, t.answer, t.model_fingerprint) for t in written] == [
        (name, town, "big") for name, town in zip(NAMES, TOWNS, strict=True)
    ]
    for trajectory, name, town in zip(written, NAMES, TOWNS, strict=True):
        [step] = trajectory.steps
        assert (step.query, step.evidence) == (f"{name} birthplace", f"{name} was born in {town}.")
        assert name in {hit.passage.id for hit in step.hits}
        said = [token for token, mask in zip(trajectory.token_ids, trajectory.loss_mask, strict=True) if mask]
        assert chat.tokenizer.decode(said) == (
            f"<QUERY> {name} birthplace<|im_end|><FACT> {name} was born in {town}. <FINAL><|im_end|>{town}<|im_end|>"
        )
    assert read_warmup(tmp_path / "w.jsonl", chat) == written
    assert (report["evidence_read"], report["answer_follows"], report["left_out"]) == (1.0, 1.0, {})
    asked = 3 * len(NAMES)
    assert report["teacher"] == {
        "model": "big",
        "attempts": len(NAMES),
        "failed": {},
        "prompt_tokens": 100 * asked,
        "cached_tokens": 40 * asked,
        "completion_tokens": 7 * asked,
        "price": pytest.approx((2 * 100 + 10 * 7) * asked / 1e6),
    }
    kept = ["w.jsonl", "w.report.json", "w.teacher.jsonl", "w.teacher.jsonl.origin.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_the_teacher_is_given_the_rules_and_the_passages_that_the_index_returns(tmp_path: Path, ask: Ask) -> None:
    with serving(answering(well)) as server:
        written, _ = ask(server, tmp_path / "w.jsonl", "--limit", 1)
    first, second, last = (body["messages"] for _, _, body in server.asked)
    assert first[0]["content"].startswith(RULES)
    assert [message["role"] for message in last] == ["user", "assistant"] * (len(last) // 2) + ["user"]
    assert all(hit.passage.text in second[-1]["content"] for hit in written[0].steps[0].hits)
    assert "final answer" in last[-1]["content"]


FAULTS: dict[str, tuple[str, str, str]] = {
    "malformed": ("I would look it up.", "", ""),
    "wrong_answer": ("<QUERY> {name}", "<FACT> {name} was born in {town}. <FINAL>", "Atlantis"),
    "evidence_not_read": ("<QUERY> {name}", "<FACT> {name} hails from {town}. <FINAL>", "{town}"),
    "nothing_recorded": ("<QUERY> {name}", "<FACT> <FINAL>", "{town}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_the_checks_is_tried_again_then_left_out_and_counted(tmp_path: Path, ask: Ask, fault: str) -> None:
    def say(name: str, turn: int, shown: str) -> str:
        if name != "Runa":
            return well(name, turn, shown)
        return FAULTS[fault][turn].format(name=name, town=TOWNS[NAMES.index(name)])

    with serving(answering(say)) as server:
        written, report = ask(server, tmp_path / "w.jsonl", "--attempts", 3)
    assert [trajectory.question_id for trajectory in written] == [name for name in NAMES if name != "Runa"]
    assert report["left_out"] == {fault: 1}
    assert report["teacher"]["failed"] == {fault: 3}
    assert report["teacher"]["attempts"] == len(NAMES) - 1 + 3


def test_a_second_attempt_that_passes_is_taken(tmp_path: Path, ask: Ask) -> None:
    openings: Counter[str] = Counter()

    def say(name: str, turn: int, shown: str) -> str:
        openings[name] += turn == 0
        return "Nowhere" if turn == 2 and openings[name] == 1 else well(name, turn, shown)

    with serving(answering(say)) as server:
        written, report = ask(server, tmp_path / "w.jsonl")
    assert [trajectory.sample for trajectory in written] == [1] * len(NAMES)
    assert report["teacher"]["failed"] == {"wrong_answer": len(NAMES)}


def test_a_busy_server_is_asked_again_and_a_stopped_run_asks_nothing_twice(
    tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answering(well)) as server:
        whole, report = ask(server, tmp_path / "whole.jsonl")
        journal = (tmp_path / "whole.teacher.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "w.teacher.jsonl").write_text("".join(journal[:4]) + journal[4][:200])
        busy, before = [429, 503], len(server.asked)
        answer = server.reply
        server.reply = lambda asked: (busy.pop(), {}, b"not now") if busy else answer(asked)
        continued, again = ask(server, tmp_path / "w.jsonl")
        assert len(server.asked) - before == 3 * (len(NAMES) - 4) + 2
        assert (continued, again) == (whole, report), "the tokens of both starts are counted"
        ask(server, tmp_path / "w.jsonl")
        assert len(server.asked) - before == 3 * (len(NAMES) - 4) + 2


def test_a_refusing_server_is_one_error_and_leaves_nothing(tmp_path: Path, ask: Ask) -> None:
    with (
        serving(lambda asked: (401, {}, b"no such key")) as server,
        pytest.raises(UsageError, match=r"the teacher does not answer: .*HTTP 401: no such key"),
    ):
        ask(server, tmp_path / "w.jsonl")
    assert len(server.asked) == 1
    assert not list(tmp_path.iterdir())


def test_what_failed_for_want_of_an_answer_is_asked_by_a_later_start(tmp_path: Path, ask: Ask) -> None:
    def reply(asked: Asked) -> Reply:
        return (400, {}, b"no") if "Where was Sven" in json.dumps(asked[2]) else answering(well)(asked)

    with serving(reply) as server:
        written, report = ask(server, tmp_path / "w.jsonl", "--attempts", 1)
        assert report["left_out"] == {"engine_failed": 1}
        server.reply = answering(well)
        before = len(server.asked)
        complete, _ = ask(server, tmp_path / "w.jsonl", "--attempts", 1)
        assert len(server.asked) - before == 3
    assert len(written) == len(NAMES) - 1
    assert [trajectory.question_id for trajectory in complete] == NAMES


def test_a_journal_of_another_teacher_is_refused(tmp_path: Path, ask: Ask) -> None:
    with serving(answering(well)) as server:
        ask(server, tmp_path / "w.jsonl", "--limit", 2)
        with pytest.raises(UsageError, match=r"model\.path, which meant big \w+ and now means bigger \w+"):
            ask(server, tmp_path / "w.jsonl", "--teacher-model", "bigger")


def test_the_key_travels_in_the_header(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "key").write_text("secret\n")
    with serving(answering(well)) as server:
        ask(server, tmp_path / "w.jsonl", "--limit", 1, "--api-key-file", tmp_path / "key")
    assert all(headers["Authorization"] == "Bearer secret" for headers in server.headers)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--teacher", "http://127.0.0.1:9/v1"), "--teacher and --teacher-model go together"),
        (("--teacher-model", "big"), "--teacher and --teacher-model go together"),
        (
            ("--teacher", "http://127.0.0.1:9/v1", "--teacher-model", "big", "--set", "agent.grammar=self-ask"),
            "a teacher can only write exsearch",
        ),
    ],
)
def test_half_a_teacher_and_one_of_another_grammar_are_refused(
    folder: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    command = ["data", "warmup", folder / "questions.jsonl", "--index", folder / "index", "--out", tmp_path / "w"]
    with pytest.raises(UsageError, match=message):
        exsearch([*map(str, command), *words], standalone_mode=False)


def test_the_example_keeps_to_the_rules() -> None:
    grammar = ExSearchGrammar()
    messages = example_messages(grammar)
    shown = ""
    for number, message in enumerate(messages):
        if message["role"] == "user":
            shown = message["content"]
        elif number < len(messages) - 1:
            action = grammar.parse(message["content"], first=number == 1)
            assert action.evidence is None or action.evidence in shown
