"""`exsearch data warmup`: trajectories from annotations as a file, what it is worth, and what takes such a file."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Trajectory
from exsearch.cli.main import exsearch
from exsearch.config import AgentConfig, WarmupConfig, parse_config
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, read_jsonl, write_jsonl
from exsearch.corpus.passage import Hit, Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.em.loop import EMRun
from exsearch.questions.question import Question, SubQuestion, read_questions
from exsearch.retrieval.bm25.bm25 import Bm25
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.warmup.plan import GoldPassages, plan
from exsearch.warmup.quality import WarmupReport
from exsearch.warmup.write import gold_outcomes, read_warmup
from exsearch.world import World
from scripted import StaticRetriever

QUESTIONS = 30
Write = Callable[..., tuple[list[Trajectory], dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with an index, its questions, and the same ones as HotpotQA has them: without sub-questions."""
    folder = tmp_path_factory.mktemp("warmup-data")
    world = World(seed=4, passages=400)
    build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    questions = list(world.questions("train", QUESTIONS, [2]))
    write_jsonl(folder / "questions.jsonl", questions)
    corpus = Corpus.open(folder / "corpus")
    write_jsonl(folder / "supported.jsonl", [without_decomposition(question, corpus) for question in questions])
    return folder


def without_decomposition(question: Question, corpus: Corpus) -> Question:
    """The question with the first sentence of each gold passage that names an answer of its sub-question."""
    sentences = []
    for sub in question.sub_questions:
        passage = corpus.by_id(sub.passage or "")
        assert passage is not None
        told = re.split(r"(?<=\.) ", passage.text)
        found = [sentence for sentence in told if any(alias in sentence for alias in sub.answers)]
        sentences += found[:1]
    return msgspec.structs.replace(question, sub_questions=[], evidence=sentences)


@pytest.fixture
def write(folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Write:
    """Return a function that runs the command and returns the trajectories and the report."""

    def run(out: Path, *more: object, questions: str = "questions.jsonl") -> tuple[list[Trajectory], dict[str, Any]]:
        words = [folder / questions, "--index", folder / "index", "--model", tiny_checkpoint, "--out", out, "--json"]
        capsys.readouterr()
        exsearch(["data", "warmup", *map(str, [*words, *more])], standalone_mode=False)
        return list(read_jsonl(out, Trajectory)), json.loads(capsys.readouterr().out)

    return run


def test_a_decomposition_becomes_a_trajectory_over_what_the_index_returns(
    folder: Path, tmp_path: Path, write: Write, chat: ChatFormat
) -> None:
    written, report = write(tmp_path / "w.jsonl")
    questions = {question.id: question for question in read_questions(folder / "questions.jsonl")}
    index = open_index(folder / "index")
    for trajectory in written:
        question = questions[trajectory.question_id]
        assert [(step.query, step.evidence) for step in trajectory.steps] == [
            (sub.text, sub.evidence) for sub in question.sub_questions
        ]
        assert [step.hits for step in trajectory.steps] == index.search([s.query for s in trajectory.steps], 3)
        assert trajectory.answer == question.answers[0]
    assert report == msgspec.to_builtins(read_json(tmp_path / "w.report.json", WarmupReport))
    assert report["questions"] == QUESTIONS
    assert report["trajectories"] == len(written) == QUESTIONS - sum(report["left_out"].values()) > QUESTIONS / 2
    assert report["evidence_words"] > 0.7, "the world's facts are not in the words of its passages"
    assert report["mean_steps"] == 2.0
    assert report["index"] == index.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.jsonl", "w.report.json"]
    assert read_warmup(tmp_path / "w.jsonl", chat) == written


@pytest.mark.parametrize("grammar", ["self-ask", "one-shot"])
def test_the_command_writes_gold_of_the_baselines_grammars(tmp_path: Path, write: Write, grammar: str) -> None:
    written, report = write(tmp_path / "w.jsonl", "--set", f"agent.grammar={grammar}", "--limit", 8)
    assert report["trajectories"] == len(written) > 0
    assert {trajectory.grammar for trajectory in written} == {grammar}


def test_a_passage_that_is_not_found_costs_the_question_or_is_inserted(
    folder: Path, tmp_path: Path, write: Write
) -> None:
    narrow = ("--set", "agent.passages=1")
    required, lost = write(tmp_path / "r.jsonl", *narrow)
    inserted, won = write(tmp_path / "i.jsonl", "--gold", "insert", *narrow)
    assert lost["left_out"]["not_found"] > 0 and lost["gold_inserted"] == 0
    assert "not_found" not in won["left_out"]
    assert len(inserted) == won["trajectories"] > len(required)
    assert won["trajectories_with_inserted"] == len(inserted) - len(required)
    gold = {question.id: question.gold_passages for question in read_questions(folder / "questions.jsonl")}
    for trajectory in inserted:
        assert [hit.passage.id for step in trajectory.steps for hit in step.hits] == gold[trajectory.question_id]


def test_inserting_depends_on_the_seed_alone_and_at_no_rank_more_than_at_another(
    folder: Path, tmp_path: Path, write: Write
) -> None:
    write(tmp_path / "a.jsonl", "--gold", "insert")
    write(tmp_path / "b.jsonl", "--gold", "insert")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    gold = GoldPassages(Corpus.open(folder / "corpus"), WarmupConfig(gold="insert"), seed=0)
    other = GoldPassages(Corpus.open(folder / "corpus"), WarmupConfig(gold="insert"), seed=1)
    [question, *_] = read_questions(folder / "questions.jsonl")
    hits = [Hit(Passage(f"x{rank}", "t", "x"), 1.0 / rank, rank) for rank in (1, 2, 3)]

    def ranks(passages: GoldPassages) -> list[int]:
        wanted = question.gold_passages[0]
        found = [passages.with_gold(hits, wanted, question, step, 3)[0] for step in range(300)]
        return [next(hit.rank for hit in new if hit.passage.id == wanted) for new in found]

    assert all(70 < ranks(gold).count(rank) < 130 for rank in (1, 2, 3))
    assert ranks(gold) != ranks(other)


@given(st.integers(0, 6), st.integers(1, 6), st.integers(0, 9))
def test_an_inserted_passage_costs_at_most_the_last_hit(folder: Path, found: int, k: int, step: int) -> None:
    hits = [Hit(Passage(f"x{rank}", "t", "x"), 1.0 / rank, rank) for rank in range(1, min(found, k) + 1)]
    [question, *_] = read_questions(folder / "questions.jsonl")
    gold = GoldPassages(Corpus.open(folder / "corpus"), WarmupConfig(gold="insert"), seed=0)
    new, inserted = gold.with_gold(hits, question.gold_passages[0], question, step, k)
    assert inserted
    assert [hit.rank for hit in new] == list(range(1, len(new) + 1))
    assert len(new) == min(len(hits) + 1, k)
    kept = [hit.passage for hit in new if hit.passage.id != question.gold_passages[0]]
    assert kept == [hit.passage for hit in hits][: len(new) - 1]
    assert gold.with_gold(new, question.gold_passages[0], question, step, k) == (new, False)


def test_without_sub_questions_the_question_is_asked_then_titles_that_were_read(
    folder: Path, tmp_path: Path, write: Write
) -> None:
    written, report = write(tmp_path / "w.jsonl", "--gold", "insert", questions="supported.jsonl")
    questions = {question.id: question for question in read_questions(folder / "supported.jsonl")}
    corpus = Corpus.open(folder / "corpus")
    assert report["trajectories"] == len(written) > QUESTIONS / 2
    assert report["evidence_read"] == 1.0
    assert {len(trajectory.steps) for trajectory in written} == {1, 2}
    for trajectory in written:
        question = questions[trajectory.question_id]
        first, *later = trajectory.steps
        assert first.query == question.text
        known = "\n".join([question.text, *(f"{h.passage.title}\n{h.passage.text}" for h in first.hits)])
        titles = [passage.title.partition(" (")[0] for id in question.gold_passages if (passage := corpus.by_id(id))]
        assert all(step.query in known and step.query in titles for step in later)
        recorded = " ".join(step.evidence or "" for step in trajectory.steps)
        assert all(sentence in recorded for sentence in question.evidence)


def test_a_decomposed_question_may_be_asked_itself_first_and_then_only_what_it_left_open(
    folder: Path, tmp_path: Path, write: Write
) -> None:
    written, report = write(tmp_path / "w.jsonl", "--set", "warmup.opening=question")
    questions = {question.id: question for question in read_questions(folder / "questions.jsonl")}
    for trajectory in written:
        question, (first, *later) = questions[trajectory.question_id], trajectory.steps
        facts = {sub.text: sub.evidence or "" for sub in question.sub_questions}
        assert first.query == question.text
        told = [text for text, fact in facts.items() if fact in (first.evidence or "")]
        assert told, "a first search that answers nothing is not taught"
        assert first.evidence == " ".join(facts[text] for text in told)
        left = [text for text in facts if text not in told]
        assert [(step.query, step.evidence) for step in later] == [(text, facts[text]) for text in left]
    assert 1 < report["mean_steps"] < 2.0 and len(written) > QUESTIONS / 3


def test_what_names_an_answer_that_was_not_found_is_not_told_before_it(chat: ChatFormat) -> None:
    subs = [
        SubQuestion("Who made A?", ["Ann"], "a", "Ann made A."),
        SubQuestion("Where was Ann born?", ["Rome"], "ann", "Ann was born in Rome."),
    ]
    question = Question("q", "Where was the maker of A born?", ["Rome"], sub_questions=subs)
    gold = GoldPassages(None, WarmupConfig(opening="question"), seed=0)
    born, made = Passage("ann", "Ann", "Ann was born in Rome."), Passage("a", "A", "Ann made A.")
    [alone] = gold_outcomes([question], StaticRetriever([born]), chat, AgentConfig(), gold)
    assert (alone.trajectory, alone.skip_reason) == (None, "not_found")
    [both] = gold_outcomes([question], StaticRetriever([born, made]), chat, AgentConfig(), gold)
    assert both.trajectory is not None
    assert [step.evidence for step in both.trajectory.steps] == ["Ann made A. Ann was born in Rome."]


def test_a_sub_question_depends_on_the_answers_that_are_words_of_it() -> None:
    subs = [
        SubQuestion("Is B older?", ["no"], "b", "B is old."),
        SubQuestion("Is A known?", ["yes"], "a", "A is known."),
    ]
    question = Question("q", "Is B older, and A known?", ["no"], sub_questions=subs)
    searches = plan(question, GoldPassages(None, WarmupConfig(opening="question"), seed=0), AgentConfig())
    assert next(searches) == question.text
    [hits] = StaticRetriever([Passage("a", "A", "A is known.")]).search([question.text], 3)
    assert searches.send(hits) == "Is B older?"


def test_a_fact_may_be_the_sub_question_and_its_answer(folder: Path, tmp_path: Path, write: Write) -> None:
    written, report = write(tmp_path / "w.jsonl", "--set", "warmup.facts=answer")
    questions = {question.id: question for question in read_questions(folder / "questions.jsonl")}
    for trajectory in written:
        subs = questions[trajectory.question_id].sub_questions
        assert [step.evidence for step in trajectory.steps] == [f"{sub.text} {sub.answers[0]}" for sub in subs]
    assert report["answer_follows"] == 1.0


def test_a_fact_may_be_the_answer_in_a_sentence_where_there_is_one(folder: Path, tmp_path: Path, write: Write) -> None:
    stated = [
        msgspec.structs.replace(
            question,
            sub_questions=[
                msgspec.structs.replace(question.sub_questions[0], statement="So it is."),
                *question.sub_questions[1:],
            ],
        )
        for question in read_questions(folder / "questions.jsonl")
    ]
    write_jsonl(tmp_path / "stated.jsonl", stated)
    settings = ["--set", "warmup.facts=statement"]
    written, _ = write(tmp_path / "w.jsonl", *settings, questions=str(tmp_path / "stated.jsonl"))
    subs = {question.id: question.sub_questions for question in stated}
    for trajectory in written:
        second = subs[trajectory.question_id][1]
        assert [step.evidence for step in trajectory.steps] == ["So it is.", f"{second.text} {second.answers[0]}"]


def test_a_question_that_finds_nothing_is_no_step_unless_its_passage_is_inserted(
    folder: Path, chat: ChatFormat
) -> None:
    corpus = write_corpus(
        folder / "small",
        [Passage("a", "Ilse Kranmar", "Ilse Kranmar was born in Tarn."), Passage("z", "Zoo", "A zoo of no interest.")],
    )

    class OnlyByTitle(StaticRetriever):
        def search(self, queries: list[str], k: int) -> list[list[Hit]]:
            ids = ["a" if query == "Ilse Kranmar" else "z" for query in queries]
            return [[Hit(passage, 1.0, 1)] for id in ids if (passage := corpus.by_id(id))]

    question = Question("q", "Where was Ilse Kranmar born?", ["Tarn"], gold_passages=["a"])
    question = msgspec.structs.replace(question, evidence=["Ilse Kranmar was born in Tarn."])
    queries = {}
    for policy in ("require", "insert"):
        gold = GoldPassages(corpus, WarmupConfig(gold=policy), seed=0)
        [outcome] = gold_outcomes([question], OnlyByTitle([]), chat, AgentConfig(passages=1), gold)
        assert outcome.trajectory is not None
        queries[policy] = [step.query for step in outcome.trajectory.steps]
    assert queries == {"require": ["Ilse Kranmar"], "insert": ["Where was Ilse Kranmar born?"]}


def test_a_question_that_is_the_title_it_would_ask_for_next_is_left_out(chat: ChatFormat, folder: Path) -> None:
    corpus = write_corpus(folder / "title", [Passage("a", "Kranmar", "Kranmar is a town.")])
    question = Question("q", "Kranmar", ["a town"], gold_passages=["a"], evidence=["Kranmar is a town."])
    gold = GoldPassages(corpus, WarmupConfig(gold="require"), seed=0)
    [outcome] = gold_outcomes([question], StaticRetriever([]), chat, AgentConfig(passages=1), gold)
    assert (outcome.trajectory, outcome.skip_reason) == (None, "not_found")


LONG = " ".join(f"word{number}" for number in range(300))
FAULTS = {
    "no_annotation": (Question("q", "Who?", ["A"], sub_questions=[SubQuestion("x", ["A"], passage="p")]), {}),
    "no_corpus": (Question("q", "Who?", ["A"], gold_passages=["p"], evidence=["He is A."]), {}),
    "not_found": (Question("q", "Who?", ["A"], sub_questions=[SubQuestion("x", ["A"], "other", "He is A.")]), {}),
    "too_many_steps": (
        Question("q", "Who?", ["A"], sub_questions=[SubQuestion("x", ["A"], "p", "He is A.")] * 2),
        {"max_steps": 1},
    ),
    "turn_too_long": (
        Question("q", "Who?", ["A"], sub_questions=[SubQuestion("x", ["A"], "p", "He is A.")]),
        {"turn_tokens": 8},
    ),
    "context_full": (
        Question("q", "Who?", ["A"], sub_questions=[SubQuestion("x", ["A"], "p", "He is A.")]),
        {"context": 200},
    ),
    "evidence_cut": (Question("q", "Who?", ["A"], sub_questions=[SubQuestion("x", ["A"], "p", "The end is A.")]), {}),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_what_cannot_be_taught_is_left_out_with_its_reason(chat: ChatFormat, reason: str) -> None:
    question, changes = FAULTS[reason]
    retriever = StaticRetriever([Passage("p", "t", f"He is A. {LONG} The end is A.")])
    [outcome] = gold_outcomes([question], retriever, chat, AgentConfig(**changes))
    assert (outcome.trajectory, outcome.skip_reason) == (None, reason)


def test_a_sub_question_without_an_answer_has_nothing_to_record(chat: ChatFormat) -> None:
    question = Question("q", "Who?", ["A"], sub_questions=[SubQuestion("x", [], "p", "He is A.")])
    retriever = StaticRetriever([Passage("p", "t", "He is A.")])
    gold = GoldPassages(None, WarmupConfig(gold="require", facts="answer"), seed=0)
    [outcome] = gold_outcomes([question], retriever, chat, AgentConfig(), gold)
    assert (outcome.trajectory, outcome.skip_reason) == (None, "no_annotation")


@pytest.mark.parametrize("facts", ["answer", "statement"])
def test_what_was_cut_off_a_passage_is_not_to_be_told_in_other_words(
    chat: ChatFormat, facts: Literal["answer", "statement"]
) -> None:
    question, _ = FAULTS["evidence_cut"]
    retriever = StaticRetriever([Passage("p", "t", f"He is A. {LONG} The end is A.")])
    gold = GoldPassages(None, WarmupConfig(facts=facts), seed=0)
    [cut] = gold_outcomes([question], retriever, chat, AgentConfig(), gold)
    [whole] = gold_outcomes(
        [question], retriever, chat, AgentConfig(passages=1, max_steps=1, passage_tokens=2000), gold
    )
    assert cut.skip_reason == "evidence_cut" and whole.trajectory is not None


def test_the_report_tells_facts_that_are_not_in_the_passages(chat: ChatFormat) -> None:
    from exsearch.warmup.quality import Quality

    def asked(id: str, evidence: str) -> Question:
        return Question(id, "Who?", ["Ann Lee"], sub_questions=[SubQuestion("x", ["A"], "p", evidence)])

    questions = [asked("read", "It was Ann Lee."), asked("paraphrased", "Ann Lee did it."), asked("vague", "It was.")]
    retriever = StaticRetriever([Passage("p", "t", "It was Ann Lee. Nobody else.")])
    quality = Quality(chat)
    assert len(list(quality.count(gold_outcomes(questions, retriever, chat, AgentConfig())))) == 3
    report = quality.report("static", "gold")
    assert (report.evidence_read, report.answer_follows) == (pytest.approx(2 / 3, abs=1e-4),) * 2
    assert report.evidence_words == pytest.approx((1 + 3 / 4 + 1) / 3, abs=1e-4)


def test_what_was_found_before_an_interruption_is_not_searched_for_again(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "whole.jsonl", questions="supported.jsonl")
    monkeypatch.setattr("exsearch.warmup.write.BATCH", 8)
    whole, asked, left = Bm25.search, list[str](), [3]

    def search(retriever: Bm25, queries: list[str], k: int) -> list[list[Hit]]:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        asked.extend(queries)
        return whole(retriever, queries, k)

    monkeypatch.setattr(Bm25, "search", search)
    with pytest.raises(click.exceptions.Abort):
        write(tmp_path / "broken.jsonl", questions="supported.jsonl")
    assert not (tmp_path / "broken.jsonl").exists() and asked
    write(tmp_path / "broken.jsonl", questions="supported.jsonl")
    assert len(asked) == len(set(asked)), "nothing is searched for twice"
    assert (tmp_path / "broken.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not list(tmp_path.glob(".broken*"))


def test_a_file_without_a_single_trajectory_is_refused_and_nothing_is_left(
    folder: Path, tmp_path: Path, write: Write
) -> None:
    write_jsonl(folder / "bare.jsonl", [Question("q", "Who?", ["Ada"])])
    with pytest.raises(UsageError, match=r"none of 1 questions became a trajectory \(no_annotation 1\)"):
        write(tmp_path / "w.jsonl", questions="bare.jsonl")
    assert not list(tmp_path.iterdir())


def test_inserting_needs_a_corpus_at_hand(folder: Path, tmp_path: Path, write: Write) -> None:
    write(tmp_path / "w.jsonl", "--set", f"data.record={tmp_path / 'record'}")
    replay = ("--index", f"replay:{tmp_path / 'record'}")
    replayed, _ = write(tmp_path / "again.jsonl", *replay)
    assert replayed == list(read_jsonl(tmp_path / "w.jsonl", Trajectory))
    with pytest.raises(UsageError, match="name an index folder"):
        write(tmp_path / "i.jsonl", "--gold", "insert", *replay)


def test_ready_trajectories_warm_a_model_up_without_an_index(
    tmp_path: Path, write: Write, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, _ = write(tmp_path / "w.jsonl", "--limit", 4)
    words = ["warmup", tmp_path / "w.jsonl", "--out", tmp_path / "m", "--model", tiny_checkpoint, "--json"]
    words += ["--set", "warmup.epochs=1", "--set", "warmup.questions=1", "--set", "model.precision=fp32"]
    exsearch(list(map(str, words)), standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["examples"] == len(written) > 1, "all of them are used"
    assert (tmp_path / "m" / "model.safetensors").is_file()
    assert list(read_jsonl(tmp_path / "m.trajectories.jsonl", Trajectory)) == written
    write(tmp_path / "w.jsonl", "--limit", 3)
    with pytest.raises(UsageError, match="has a model trained from other inputs"):
        exsearch(list(map(str, words)), standalone_mode=False)
    assert list(read_jsonl(tmp_path / "m.trajectories.jsonl", Trajectory)) == written, "the refused ones are not kept"


def test_questions_still_need_an_index(folder: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    words = ["warmup", folder / "questions.jsonl", "--out", tmp_path / "m", "--model", tiny_checkpoint]
    with pytest.raises(UsageError, match=r"questions\.jsonl: has questions, not trajectories; name the index"):
        exsearch(list(map(str, words)), standalone_mode=False)


def test_tokens_of_another_model_are_refused(tmp_path: Path, write: Write, chat: ChatFormat) -> None:
    [first, *_], _ = write(tmp_path / "w.jsonl", "--limit", 4)
    shifted = msgspec.structs.replace(first, token_ids=[token + 1 for token in first.token_ids])
    unanswered = msgspec.structs.replace(first, answer=None)
    for wrong, message in (
        (shifted, "not those of this model's tokenizer and chat template"),
        (unanswered, "has no answer"),
    ):
        write_jsonl(tmp_path / "wrong.jsonl", [first, wrong])
        with pytest.raises(UsageError, match=message):
            read_warmup(tmp_path / "wrong.jsonl", chat)


def test_questions_are_no_ready_trajectories(folder: Path, chat: ChatFormat) -> None:
    with pytest.raises(UsageError, match=r"questions\.jsonl: has questions; `exsearch data warmup` writes"):
        read_warmup(folder / "questions.jsonl", chat)


def test_a_run_explores_all_questions_but_those_of_its_ready_trajectories(
    folder: Path, tmp_path: Path, write: Write, tiny_checkpoint: Path
) -> None:
    written, _ = write(tmp_path / "w.jsonl", "--limit", 10)
    files = dict.fromkeys(("train", "dev", "test"), str(folder / "questions.jsonl"))
    data = {"index": str(folder / "index"), "warmup": str(tmp_path / "w.jsonl"), **files}
    config = parse_config({"data": data, "model": {"path": str(tiny_checkpoint)}}, [], "test")
    run = EMRun(config, tmp_path / "run", lambda line: None)
    learned = {trajectory.question_id for trajectory in written}
    explored = {question.id for question in run.questions_of(1)}
    assert not learned & explored
    assert learned | explored == {question.id for question in read_questions(folder / "questions.jsonl")}
