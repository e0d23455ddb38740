"""`exsearch data import`: what it finds in a corpus, what it counts, what it refuses, and which leaks it sees."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from exsearch.cli.data import data as command
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.corpus.importing import import_corpus
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, delete_passages, write_corpus
from exsearch.questions.gold_finder import GoldFinder
from exsearch.questions.importer import Usage, import_questions
from exsearch.questions.question import Question, read_questions
from exsearch.questions.readers.annotated import NamedPassage

PASSAGES = [
    Passage("1", "Ostrel", "Ostrel  is a lamp."),
    Passage("2", "Ostrel", "It was made by Mira."),
    Passage("3", "Mira", "Mira died\nin Karn. She liked tea."),
    Passage("4", "Karn", "A town."),
    Passage("5", "Karn", "A river."),
    Passage("6", "Mira", "gone"),
]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    write_corpus(tmp_path / "corpus", PASSAGES)
    return delete_passages(tmp_path / "corpus", ["6"])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["import", *map(str, arguments)], catch_exceptions=False)


def lines(path: Path, *records: dict[str, Any]) -> Path:
    write_jsonl(path, records)
    return path


def hotpot(id: str, facts: list[tuple[str, int]], **paragraphs: list[str]) -> dict[str, Any]:
    asked = {"_id": id, "question": f"What of {id}?", "answer": "Karn", "type": "bridge"}
    return {**asked, "supporting_facts": facts, "context": list(paragraphs.items())}


FOUND = [
    (NamedPassage(id="3"), ["3"]),
    (NamedPassage(id="6"), []),
    (NamedPassage(id="3", title="Mira"), ["3"]),
    (NamedPassage(id="1", title="Mira"), ["3"]),
    (NamedPassage(title="Mira"), ["3"]),
    (NamedPassage(title="Mira", ambiguous=True), []),
    (NamedPassage(title="Karn"), []),
    (NamedPassage(title="Velm"), []),
    (NamedPassage(title=" Karn ", text="A\triver. "), ["5"]),
    (NamedPassage(title="Karn", text="A hill."), []),
    (NamedPassage(title="Mira", text="She liked tea."), []),
    (NamedPassage(title="Mira", text="Longer.", sentences=("Mira died in Karn.",)), ["3"]),
    (NamedPassage(title="Ostrel", sentences=("made by Mira", "a lamp", "Ostrel is")), ["2", "1"]),
    (NamedPassage(title="Ostrel", sentences=("made by Mira", "in 1821")), []),
    (NamedPassage(), []),
]


@pytest.mark.parametrize("named, ids", FOUND)
def test_a_passage_is_found_by_id_by_text_or_by_its_sentences(
    corpus: Corpus, named: NamedPassage, ids: list[str]
) -> None:
    assert GoldFinder(corpus, [named]).find(named) == ids


def test_a_question_gets_its_gold_passages_only_if_all_are_there(tmp_path: Path, corpus: Corpus) -> None:
    complete = hotpot("a", [("Ostrel", 0), ("Mira", 0)], Ostrel=["It was made by Mira."], Mira=["Mira died in Karn."])
    partial = hotpot("b", [("Mira", 0), ("Velm", 0)], Velm=["Velm is."], Mira=["Mira died in Karn."])
    file = lines(tmp_path / "in.jsonl", complete, partial)
    result = run(file, "--out", tmp_path / "out.jsonl", "--corpus", corpus.folder)
    first, second = read_questions(tmp_path / "out.jsonl")
    assert (first.gold_passages, second.gold_passages) == (["2", "3"], [])
    assert "gold passages: 3 found, 1 not; all of them found for 1 questions" in result.stdout
    assert "not found: 'Velm' (question 'b')" in result.stderr
    [missing] = read_jsonl(tmp_path / "out.unresolved.jsonl", dict)
    assert missing == {"question": "b", "passage": {"title": "Velm", "text": "Velm is.", "sentences": ["Velm is."]}}
    run(lines(tmp_path / "in.jsonl", complete), "--out", tmp_path / "out.jsonl", "--corpus", corpus.folder)
    assert not (tmp_path / "out.unresolved.jsonl").exists()


def test_a_gold_passage_that_could_be_either_of_two_is_left_open_and_counted(tmp_path: Path, corpus: Corpus) -> None:
    record = hotpot("a", [("Mira", 0), ("Ostrel", 0)], Mira=["Mira died\nin Karn.", "She liked tea."], Ostrel=["x"])
    record["context"].append(("Mira", ["Mira is a lamp."]))
    result = run(lines(tmp_path / "in.jsonl", record), "--out", tmp_path / "out.jsonl", "--corpus", corpus.folder)
    assert "gold passages: 1 could be any of several paragraphs of one title, and are not resolved" in result.stdout
    assert [question.gold_passages for question in read_questions(tmp_path / "out.jsonl")] == [[]]
    missing = [line["passage"] for line in read_jsonl(tmp_path / "out.unresolved.jsonl", dict)]
    assert missing[0] == {"title": "Mira", "ambiguous": True}


def test_sub_questions_get_the_passage_with_their_evidence(tmp_path: Path, corpus: Corpus) -> None:
    record = hotpot("a", [("Ostrel", 0), ("Ostrel", 1)], Ostrel=["Ostrel is a lamp.", "It was made by Mira."])
    triples = [["Ostrel", "maker", "Mira"], ["Ostrel", "kind", "lamp"]]
    file = lines(tmp_path / "in.jsonl", {**record, "evidences": triples})
    import_questions([file], tmp_path / "out.jsonl", corpus=corpus)
    [question] = read_questions(tmp_path / "out.jsonl")
    assert question.gold_passages == ["1", "2"]
    assert [(sub.passage, sub.evidence) for sub in question.sub_questions] == [
        ("2", "It was made by Mira."),
        ("1", "Ostrel is a lamp."),
    ]


def test_without_a_corpus_ids_are_kept_and_titles_are_counted(tmp_path: Path) -> None:
    own = lines(tmp_path / "own.jsonl", {"id": "o", "text": "Who?", "answers": ["Karn"], "gold_passages": ["7"]})
    named = lines(tmp_path / "named.jsonl", hotpot("b", [("Mira", 0)], Mira=["Mira died."]))
    result = run(own, named, "--out", tmp_path / "out.jsonl")
    assert [question.gold_passages for question in read_questions(tmp_path / "out.jsonl")] == [["7"], []]
    assert "gold passages: 1 named by title are skipped without --corpus" in result.stdout
    assert "2 questions (exsearch, hotpotqa)" in result.stdout


def test_what_cannot_be_scored_is_left_out_counted_and_named(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "in.jsonl",
        {"id": "a", "text": "Who?", "answers": ["The Who", "The", "!"]},
        {"id": "b", "text": "What?", "answers": ["The", "a"]},
        {"id": "c", "text": "When?", "answers": []},
        {"id": "d", "text": " ", "answers": ["x"]},
    )
    result = run(file, "--out", tmp_path / "out.jsonl")
    assert read_questions(tmp_path / "out.jsonl") == [Question("a", "Who?", ["The Who"])]
    assert "skipped: 1 (no answer of which normalisation leaves anything), 1 (no answer), 1 (no text)" in result.stdout
    assert f"skipped: {file}, line 2: no answer of which normalisation leaves anything (id 'b')" in result.stderr
    assert "dropped: 2 answers that are empty after normalisation" in result.stdout


def test_a_table_that_pandas_wrote_has_whole_numbers_and_names_the_row_without_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("question,answer,id\nWhen was it built?,1911.0,1\nHow many kilns?,7.0,2\nWho?,,3\n")
    result = run(file, "--out", tmp_path / "out.jsonl")
    expected = [Question("1", "When was it built?", ["1911"]), Question("2", "How many kilns?", ["7"])]
    assert read_questions(tmp_path / "out.jsonl") == expected
    assert f"skipped: {file}, line 4: no answer (id '3')" in result.stderr


def test_unanswerable_questions_of_musique_are_left_out(tmp_path: Path) -> None:
    asked = {"id": "2hop__1_2", "question": "Who?", "answer": "Karn", "paragraphs": []}
    file = lines(tmp_path / "in.jsonl", {**asked, "answerable": True}, {**asked, "answerable": False})
    imported = import_questions([file], tmp_path / "out.jsonl")
    assert (imported.questions, imported.skipped) == (1, {"not answerable from its paragraphs": 1})


LEAKS = [
    {"id": "a", "text": "Who is the king?", "answers": ["x"]},
    {"id": "b", "text": "who is a King", "answers": ["x"]},
]


def test_questions_asked_twice_or_elsewhere_are_reported_with_ids(tmp_path: Path) -> None:
    dev = lines(tmp_path / "dev.jsonl", {"_id": "d", "question": "WHO? King!", "answer": "x", "context": []})
    dev_too = lines(tmp_path / "dev2.jsonl", {"question": "Who is king?", "answer": "x"})
    file = lines(tmp_path / "in.jsonl", *LEAKS, {"id": "c", "text": "Who, king?", "answers": ["x"]})
    arguments = (file, "--out", tmp_path / "out.jsonl", "--against", dev, "--json")
    leaks = json.loads(run(*arguments).stdout)["leaks"]
    assert leaks == [
        {"id": "b", "file": str(file), "other": "a"},
        {"id": "c", "file": str(dev), "other": "d"},
    ]
    assert len(read_questions(tmp_path / "out.jsonl")) == 3
    said = json.loads(run(*arguments, "--drop-leaks").stdout)
    assert (said["leaks"], said["left_out"]) == (leaks, {"asked elsewhere or twice": 2})
    assert [question.id for question in read_questions(tmp_path / "out.jsonl")] == ["a"]
    said = run(file, "--out", tmp_path / "out.jsonl", "--against", dev_too).stderr
    assert f"b: also dev2-1 in {dev_too}" in said


SAME = [
    ("What’s the capital of France?", "What's the capital of France?"),
    ("Where was Beyonce\u0301 born?", "Where was Beyonc\u00e9 born?"),
    ("“Karn” – a town…", '"Karn" -- a town...'),
    ("Who\u00a0made it？", "who made it"),
]


@pytest.mark.parametrize("here, there", SAME)
def test_a_question_in_other_typography_is_a_leak(tmp_path: Path, here: str, there: str) -> None:
    dev = lines(tmp_path / "dev.jsonl", {"id": "d", "text": there, "answers": ["x"]})
    file = lines(tmp_path / "in.jsonl", {"id": "a", "text": here, "answers": ["x"]})
    imported = import_questions([file], tmp_path / "out.jsonl", against=[dev])
    assert [(leak.id, leak.other) for leak in imported.leaks] == [("a", "d")]
    assert read_questions(tmp_path / "out.jsonl")[0].text == here


def test_a_row_whose_answer_is_nan_is_a_question_without_an_answer(tmp_path: Path) -> None:
    table = pa.table({"question": ["A?", "B?", "C?"], "answer": [1914.0, math.nan, 1918.0]})
    pq.write_table(table, tmp_path / "in.parquet")
    imported = import_questions([tmp_path / "in.parquet"], tmp_path / "out.jsonl")
    assert [question.answers for question in read_questions(tmp_path / "out.jsonl")] == [["1914"], ["1918"]]
    assert imported.skipped == {"no answer": 1}


def test_a_file_with_one_answer_or_a_list_is_counted_as_plain(tmp_path: Path) -> None:
    file = lines(tmp_path / "in.jsonl", {"question": "A?", "answer": ["y", "z"]}, {"question": "B?", "answer": "x"})
    assert import_questions([file], tmp_path / "out.jsonl").formats == {"plain": 2}


def two_wiki(id: str) -> dict[str, Any]:
    record = hotpot(id, [("Ostrel", 0), ("Mira", 0)], Ostrel=["It was made by Mira."], Mira=["Mira died in Karn."])
    triples = [["Ostrel", "maker", "Mira"], ["Mira", "place of death", "Karn"]]
    return {**record, "evidences": triples, "answer_id": "Q3", "evidences_id": [["Q1", "", "Q2"], ["Q2", "", "Q3"]]}


def decomposed(id: str, *questions: str) -> dict[str, Any]:
    return {"_id": id, "sub_questions": [{"question": question} for question in questions]}


def test_lines_of_the_files_beside_the_questions_are_counted_used_or_not(tmp_path: Path) -> None:
    file = lines(tmp_path / "in.jsonl", *map(two_wiki, "abc"))
    words = ("Who made Ostrel?", "Where did Mira die?")
    own = lines(tmp_path / "asked", *[decomposed(id, *words) for id in "acz"], decomposed("b", *words, "Why?"))
    names = lines(tmp_path / "names", {"Q_id": "Q3", "aliases": ["Karn City"]}, {"Q_id": "Q9", "aliases": ["Velm"]})
    options = ("--decompositions", own, "--aliases", names, "--out", tmp_path / "out.jsonl")
    result = run(file, *options)
    assert "decompositions: 2 lines used, 2 not" in result.stdout
    assert "aliases: 1 lines used, 1 not" in result.stdout
    assert "  not used: 'z', 'b'\n  not used: 'Q9'\n" in result.stderr
    assert [question.sub_questions[0].text for question in read_questions(tmp_path / "out.jsonl")] == [
        "Who made Ostrel?",
        "Ostrel maker",
        "Who made Ostrel?",
    ]
    said = json.loads(run(file, *options, "--limit", 1, "--json").stdout)
    assert said["decompositions"] == {"used": 1, "unused": 3, "first_unused": ["c", "z", "b"]}
    assert said["aliases"] == {"used": 1, "unused": 1, "first_unused": ["Q9"]}


def test_of_a_passage_that_is_found_in_part_nothing_counts_as_found(tmp_path: Path, corpus: Corpus) -> None:
    facts = [("Ostrel", 0), ("Ostrel", 1), ("Mira", 0)]
    paragraphs = {"Ostrel": ["It was made by Mira.", "It cost much."], "Mira": ["Mira died in Karn."]}
    triples = [["Ostrel", "maker", "Mira"], ["Mira", "place of death", "Karn"]]
    file = lines(tmp_path / "in.jsonl", hotpot("a", facts, **paragraphs) | {"evidences": triples})
    result = run(file, "--out", tmp_path / "out.jsonl", "--corpus", corpus.folder)
    assert "gold passages: 1 found, 1 not; all of them found for 0 questions" in result.stdout


@pytest.mark.parametrize("role", ["file", "--against"])
def test_a_file_that_is_read_is_not_written_to(tmp_path: Path, role: str) -> None:
    first = lines(tmp_path / "first.jsonl", {"question": "A?", "answer": "a fact"})
    other = lines(tmp_path / "other.jsonl", {"question": "B?", "answer": "b"})
    before = first.read_bytes(), other.read_bytes()
    words = [first, other] if role == "file" else [first, "--against", other]
    with pytest.raises(UsageError, match="is also an input, and would be replaced"):
        run(*words, "--out", other)
    assert (first.read_bytes(), other.read_bytes()) == before


def test_what_is_not_found_is_listed_beside_its_own_output(tmp_path: Path, corpus: Corpus) -> None:
    file = lines(tmp_path / "in.jsonl", hotpot("a", [("Velm", 0)], Velm=["Velm is."]))
    for name in ("set.train", "set.dev"):
        run(file, "--out", tmp_path / name, "--corpus", corpus.folder)
    assert {path.name for path in tmp_path.glob("*.unresolved.jsonl")} == {
        "set.train.unresolved.jsonl",
        "set.dev.unresolved.jsonl",
    }


def test_files_of_several_splits_give_questions_ids_of_their_own(tmp_path: Path) -> None:
    names = ("NQ-open.train.jsonl", "NQ-open.dev.jsonl")
    files = [lines(tmp_path / name, {"question": f"{name}?", "answer": "x"}) for name in names]
    run(*files, "--out", tmp_path / "out.jsonl")
    assert [q.id for q in read_questions(tmp_path / "out.jsonl")] == ["NQ-open.train-1", "NQ-open.dev-1"]


def test_what_is_behind_the_limit_is_not_read(tmp_path: Path) -> None:
    file = lines(tmp_path / "in.jsonl", {"question": "A?", "answer": "x"})
    file.write_bytes(file.read_bytes() + b"{torn")
    (tmp_path / "later.jsonl").write_bytes(b"torn")
    run(file, tmp_path / "later.jsonl", "--out", tmp_path / "out.jsonl", "--limit", 1)
    assert [question.text for question in read_questions(tmp_path / "out.jsonl")] == ["A?"]


def test_a_limit_counts_the_questions_kept_of_all_files(tmp_path: Path) -> None:
    first = lines(tmp_path / "first.jsonl", {"question": "A?", "answer": "a"}, {"question": "B?", "answer": "x"})
    second = lines(tmp_path / "second.jsonl", {"question": "C?", "answer": "x"}, {"question": "D?", "answer": "x"})
    run(first, second, "--out", tmp_path / "out.jsonl", "--limit", 2)
    assert [question.id for question in read_questions(tmp_path / "out.jsonl")] == ["first-2", "second-1"]


def test_the_counts_are_there_as_json(tmp_path: Path, corpus: Corpus) -> None:
    facts = [("Mira", 0), ("Velm", 0)]
    file = lines(tmp_path / "in.jsonl", hotpot("a", facts, Mira=["Mira died in Karn."], Velm=["Velm is."]))
    said = json.loads(run(file, "--out", tmp_path / "out.jsonl", "--corpus", corpus.folder, "--json").stdout)
    passage = {"title": "Velm", "text": "Velm is.", "sentences": ["Velm is."]}
    assert said == {
        "out": str(tmp_path / "out.jsonl"),
        "questions": 1,
        "formats": {"hotpotqa": 1},
        "hops": {"2": 1},
        "answers": 1,
        "empty_answers": 0,
        "with_sub_questions": 0,
        "decompositions": None,
        "aliases": None,
        "gold_found": 1,
        "gold_unresolved": 1,
        "gold_without_corpus": 0,
        "gold_ambiguous": 0,
        "with_gold": 0,
        "unresolved": str(tmp_path / "out.unresolved.jsonl"),
        "first_unresolved": [{"question": "a", "passage": passage}],
        "left_out": {},
        "first_left_out": [],
        "leaks": [],
        "leaks_dropped": False,
    }


ONE = {"id": "a", "question": "Who?", "answer": "Karn"}
REFUSED = {
    "an id twice": ([ONE, {**ONE, "question": "What?"}], [], "line 2: the id 'a' occurs twice, first in "),
    "no answer at all": ([{**ONE, "answer": "the"}], [], "no question is left: 1 (no answer of which normalisation"),
    "a decomposition of another data set": ([ONE], ["--decompositions", "asked"], "is in the format plain; sub-"),
    "aliases that are none": ([ONE], ["--aliases", "in.jsonl"], "line 1: 'Q_id' is missing"),
    "a decomposition of other questions": (
        [two_wiki("a")],
        ["--decompositions", "asked"],
        "asked: no question uses any of its 1 lines (the first is of 'x'); it needs a question with the `_id` of a",
    ),
    "a decomposition with other steps": (
        [two_wiki("x")],
        ["--decompositions", "asked"],
        "asked: no question uses any of its 1 lines (the first is of 'x'); it needs a question with the `_id` of a",
    ),
    "aliases of other answers": (
        [{**two_wiki("a"), "answer_id": None, "evidences_id": []}],
        ["--aliases", "names"],
        "names: no question uses any of its 1 lines (the first is of 'Q3'); it needs a question with the `Q_id` of",
    ),
    "a decomposition twice": (
        [two_wiki("x")],
        ["--decompositions", "twice"],
        "twice, line 2: the id 'x' occurs twice, first in line 1; keep one",
    ),
    "aliases twice": (
        [two_wiki("x")],
        ["--aliases", "names twice"],
        "names twice, line 2: the id 'Q3' occurs twice, first in line 1; keep one",
    ),
    "a corpus that is none": ([ONE], ["--corpus", "."], "not a corpus folder"),
    "a broken file to compare with": ([ONE], ["--against", "torn"], "torn, line 1: not valid JSON (it ends too early)"),
    "a file that is not there": ([ONE], ["--against", "gone"], "gone: No such file or directory"),
    "a folder": ([ONE], ["--against", "."], "Is a directory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_one_line_and_leaves_the_output_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    records, options, complaint = REFUSED[case]
    lines(Path("in.jsonl"), *records)
    lines(Path("asked"), decomposed("x", "Who?"))
    lines(Path("twice"), *[decomposed("x", "Who?", "Where?")] * 2)
    lines(Path("names"), {"Q_id": "Q3", "aliases": []})
    lines(Path("names twice"), *[{"Q_id": "Q3", "aliases": []}] * 2)
    Path("torn").write_text('{"id": ')
    Path("out.jsonl").write_text("as it was")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UsageError) as error:
        run("in.jsonl", "--out", "out.jsonl", *options)
    assert complaint in str(error.value) and "\n" not in str(error.value)
    assert Path("out.jsonl").read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_verb_ends_a_mistake_with_exit_code_2(tmp_path: Path) -> None:
    file = lines(tmp_path / "in.jsonl", ONE, ONE)
    arguments = ["data", "import", str(file), "--out", str(tmp_path / "out.jsonl")]
    done = subprocess.run([sys.executable, "-m", "exsearch.cli.main", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    hint = "a question without an id is named after its file and number"
    assert done.stderr == f"error: {file}, line 2: the id 'a' occurs twice, first in {file}, line 1 ({hint})\n"


WIKI_MINI = {
    "hotpotqa_train.json": (100, 200),
    "hotpotqa_dev.json": (100, 200),
    "2wikimultihopqa_train.json": (500, 1184),
    "2wikimultihopqa_dev.json": (82, 208),
    "musique_train.jsonl": (100, 237),
    "musique_dev.jsonl": (100, 246),
}
"""Of each file, its questions and their gold passages."""


def test_real_files_import_whole_with_all_gold_passages_and_without_leaks(wiki_mini: Path, tmp_path: Path) -> None:
    import_corpus(wiki_mini / "psgs_w100.tsv.gz", tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    for name, (asked, passages) in WIKI_MINI.items():
        beside = wiki_mini / name.replace(".json", "_decomposition.jsonl")
        decompositions = beside if beside.exists() else None
        others = [wiki_mini / other for other in WIKI_MINI if other != name]
        out = tmp_path / f"{name}.jsonl"
        imported = import_questions(
            [wiki_mini / name], out, corpus=corpus, against=others, decompositions=decompositions
        )
        found = (imported.questions, imported.with_gold, imported.gold_found, imported.gold_unresolved)
        assert found == (asked, asked, passages, 0)
        assert (imported.skipped, imported.leaks) == ({}, [])
        assert imported.decompositions == (Usage(asked, 0, []) if decompositions else None)
        assert bool(decompositions) == (name == "2wikimultihopqa_train.json")
        subs = [sub for question in read_questions(out) for sub in question.sub_questions]
        assert bool(subs) == ("hotpotqa" not in name)
        assert all(sub.passage for sub in subs)
        assert sum(not sub.evidence for sub in subs) <= 1
        assert sum(sub.answers[0] not in (sub.evidence or "") for sub in subs) <= 2


def test_a_companion_file_without_a_line_is_refused(tmp_path: Path) -> None:
    source, decompositions = tmp_path / "two.json", tmp_path / "decompositions.json"
    record = {"_id": "a", "question": "Who?", "answer": "Karn", "type": "comparison", "context": [], "evidences": []}
    source.write_text(json.dumps([record | {"supporting_facts": []}]))
    decompositions.write_text("[]")
    with pytest.raises(UsageError, match=r"decompositions\.json: (has no lines|is empty)"):
        import_questions([source], tmp_path / "out.jsonl", decompositions=decompositions)
