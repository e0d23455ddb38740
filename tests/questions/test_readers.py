"""Readers of question files: every format gives its questions, and a foreign or broken record is named."""

import csv
import gzip
import json
import lzma
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.questions.importer import import_questions
from exsearch.questions.normalise import normalise
from exsearch.questions.question import Question, SubQuestion, read_questions
from exsearch.questions.readers.annotated import Annotated, NamedPassage
from exsearch.questions.readers.cells import as_list
from exsearch.questions.readers.companions import read_companions
from exsearch.questions.readers.formats import QuestionFile, known_formats
from exsearch.questions.readers.sentences import sentence_with

FACTS = [["Ostrel", 1], ["Ostrel", 9], ["Mira Ostrel", 0]]
"""The second names a sentence that is not there, as some of the source do."""
PARAGRAPHS = [
    ["Velm", ["Velm is a river."]],
    ["Mira Ostrel", ["Mira Ostrel died in Karn. ", "She liked tea."]],
    ["Ostrel", ["A lamp.", " Ostrel is a lamp made by Mira Ostrel."]],
]
FACT_COLUMNS = {"title": [title for title, _ in FACTS], "sent_id": [number for _, number in FACTS]}
PARAGRAPH_COLUMNS = {"title": [t for t, _ in PARAGRAPHS], "sentences": [s for _, s in PARAGRAPHS]}
GOLD = [
    NamedPassage(None, "Ostrel", "A lamp.  Ostrel is a lamp made by Mira Ostrel.", (PARAGRAPHS[2][1][1].strip(),)),
    NamedPassage(None, "Mira Ostrel", "Mira Ostrel died in Karn.  She liked tea.", ("Mira Ostrel died in Karn.",)),
]
EVIDENCE = ["Ostrel is a lamp made by Mira Ostrel.", "Mira Ostrel died in Karn."]
ASKED = {"question": "Where did the maker of Ostrel die?", "answer": "Karn", "type": "bridge"}
TRIPLES = [["Ostrel", "maker", "Mira Ostrel"], ["Mira Ostrel", "place of death", "Karn"]]

MUSIQUE = {
    "id": "3hop1__1_2_3",
    "question": "What is the seat of the county where the maker of Ostrel died?",
    "answer": "Tamm",
    "answer_aliases": ["Tamm City", "Tamm"],
    "answerable": True,
    "paragraphs": [
        {
            "idx": 0,
            "title": "Ostrel",
            "paragraph_text": "A lamp. It was made by M. Ostrel in 1821.",
            "is_supporting": True,
        },
        {"idx": 1, "title": "M. Ostrel", "paragraph_text": "M. Ostrel died in Karn.", "is_supporting": True},
        {"idx": 2, "title": "Velm", "paragraph_text": "A river.", "is_supporting": False},
        {"idx": 3, "title": "Karn", "paragraph_text": "Karn. Its seat is Tamm. Tamm is old.", "is_supporting": True},
    ],
    "question_decomposition": [
        {"id": 1, "question": "Ostrel >> maker", "answer": "M. Ostrel", "paragraph_support_idx": 0},
        {"id": 2, "question": "#1 >> place of death", "answer": "Karn", "paragraph_support_idx": 1},
        {"id": 3, "question": "What seat has #2 , not #9 ?", "answer": "Tamm", "paragraph_support_idx": 3},
    ],
}


def read(
    path: Path, decompositions: Path | None = None, names: Path | None = None
) -> tuple[str | None, list[Annotated]]:
    """Return the format of a file, and what is read from it."""
    file = QuestionFile(path, known_formats(read_companions(decompositions, names)))
    found = [read for _, read in file]
    assert all(isinstance(read, Annotated) for read in found)
    return file.format, [read for read in found if isinstance(read, Annotated)]


def json_list(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(records, indent=1))


def json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("\n\n".join(json.dumps(record) for record in records))


def packed_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode(), mtime=0))


def parquet(path: Path, records: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(records), path)


def write_cells(path: Path, rows: list[list[str]], delimiter: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nq-test.qa.csv"


@pytest.mark.parametrize("write", [json_list, json_lines, packed_lines])
def test_native_hotpotqa_names_its_supporting_paragraphs_and_sentences(
    file: Path, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    write(file, [{"_id": "5a", **ASKED, "level": "easy", "supporting_facts": FACTS, "context": PARAGRAPHS}] * 2)
    format, found = read(file)
    question = Question("5a", ASKED["question"], ["Karn"], type="bridge", hops=2, evidence=EVIDENCE)
    assert (format, found) == ("hotpotqa", [Annotated(question, GOLD)] * 2)


@pytest.mark.parametrize("write", [json_lines, parquet])
def test_a_hub_copy_with_columns_reads_as_the_native_file(
    file: Path, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    write(file, [{"id": "5a", **ASKED, "supporting_facts": FACT_COLUMNS, "context": PARAGRAPH_COLUMNS}])
    format, [found] = read(file)
    assert (format, found.gold, found.question.id) == ("hotpotqa", GOLD, "5a")


TWO_OF_A_TITLE = [*PARAGRAPHS, ["Ostrel", ["Ostrel is a town."]], ["Velm", ["A film."]]]


@pytest.mark.parametrize("paragraphs", [TWO_OF_A_TITLE, TWO_OF_A_TITLE[::-1]], ids=["first", "last"])
@pytest.mark.parametrize("more", [{}, {"evidences": TRIPLES}], ids=["HotpotQA", "2Wiki"])
def test_of_two_paragraphs_of_a_title_the_one_with_the_sentences_is_gold(
    file: Path, paragraphs: list[Any], more: dict[str, Any]
) -> None:
    json_list(file, [{"_id": "5a", **ASKED, "supporting_facts": FACTS, "context": paragraphs, **more}])
    _, [found] = read(file)
    assert (found.gold, found.question.evidence) == (GOLD, EVIDENCE)


def test_of_two_paragraphs_of_a_title_that_fit_alike_none_is_taken(file: Path) -> None:
    facts = [["Ostrel", 0], ["Mira Ostrel", 0]]
    json_list(file, [{"_id": "5a", **ASKED, "supporting_facts": facts, "context": TWO_OF_A_TITLE}])
    _, [found] = read(file)
    assert found.gold == [NamedPassage(title="Ostrel", ambiguous=True), GOLD[1]]
    assert (found.question.hops, found.question.evidence) == (2, EVIDENCE[1:])
    twice = [*PARAGRAPHS, PARAGRAPHS[2]]
    json_list(file, [{"_id": "5a", **ASKED, "supporting_facts": FACTS, "context": twice}])
    assert read(file)[1][0].gold == GOLD


def test_a_test_file_without_facts_and_answers_has_nothing_gold(file: Path) -> None:
    json_list(file, [{"_id": "5a", "question": "Where?", "context": PARAGRAPHS}])
    assert read(file) == ("hotpotqa", [Annotated(Question("5a", "Where?", []))])


@pytest.mark.parametrize("copy", ["native", "columns", "JSON in cells"])
def test_2wiki_asks_for_each_triple_and_finds_the_sentence_that_states_it(file: Path, copy: str) -> None:
    record: dict[str, Any] = {"_id": "9a", **ASKED, "supporting_facts": FACTS, "context": PARAGRAPHS}
    record["evidences"] = TRIPLES
    if copy == "JSON in cells":
        record = {name: json.dumps(value) if isinstance(value, list) else value for name, value in record.items()}
    if copy == "columns":
        names = ("fact", "relation", "entity")
        record["evidences"] = {name: [triple[n] for triple in TRIPLES] for n, name in enumerate(names)}
        record["context"] = {"title": PARAGRAPH_COLUMNS["title"], "content": PARAGRAPH_COLUMNS["sentences"]}
        record["supporting_facts"] = FACT_COLUMNS
    json_lines(file, [record])
    format, [found] = read(file)
    assert (format, found.gold, found.of_sub_questions) == ("2wikimultihopqa", GOLD, GOLD)
    assert found.question.sub_questions == [
        SubQuestion("Ostrel maker", ["Mira Ostrel"], evidence=EVIDENCE[0]),
        SubQuestion("Mira Ostrel place of death", ["Karn"], evidence=EVIDENCE[1]),
    ]


def test_2wiki_takes_words_from_a_decomposition_in_any_order_and_names_from_wikidata(
    file: Path, tmp_path: Path
) -> None:
    record = {"_id": "9a", **ASKED, "supporting_facts": FACTS, "context": PARAGRAPHS, "evidences": TRIPLES}
    ids = {"answer_id": "Q3", "evidences_id": [["Q1", "maker", "Q2"], ["Q2", "place of death", "Q3"]]}
    json_list(file, [{**record, **ids}])
    asked = [
        {"question": "Where did Mira Ostrel die?", "answer": "Mira Ostrel died in Karn."},
        {"question": "Who made Ostrel?", "answer": "The maker of Ostrel is Mira Ostrel."},
    ]
    json_lines(tmp_path / "asked", [{"_id": "9a", "sub_questions": asked}])
    names = [
        {"Q_id": "Q3", "aliases": ["Karn City", "Karn"], "demonyms": ["Karnish"]},
        {"Q_id": "Q2", "aliases": ["M. O."], "demonyms": []},
    ]
    json_lines(tmp_path / "names", names)
    _, [found] = read(file, decompositions=tmp_path / "asked", names=tmp_path / "names")
    assert found.question.answers == ["Karn", "Karn City", "Karnish"]
    assert [(sub.text, sub.answers, sub.statement) for sub in found.question.sub_questions] == [
        ("Who made Ostrel?", ["Mira Ostrel", "M. O."], "The maker of Ostrel is Mira Ostrel."),
        ("Where did Mira Ostrel die?", ["Karn", "Karn City", "Karnish"], "Mira Ostrel died in Karn."),
    ]


def test_musique_replaces_references_by_earlier_answers_and_finds_the_sentences(file: Path) -> None:
    json_lines(file, [MUSIQUE])
    format, [found] = read(file)
    question = found.question
    assert (format, question.answers, question.type, question.hops) == ("musique", ["Tamm", "Tamm City"], "3hop1", 3)
    assert question.sub_questions == [
        SubQuestion("Ostrel maker", ["M. Ostrel"], evidence="It was made by M. Ostrel in 1821."),
        SubQuestion("M. Ostrel place of death", ["Karn"], evidence="M. Ostrel died in Karn."),
        SubQuestion("What seat has Karn , not #9 ?", ["Tamm", "Tamm City"], evidence="Its seat is Tamm."),
    ]
    assert [passage.title for passage in found.gold] == ["Ostrel", "M. Ostrel", "Karn"]
    assert found.of_sub_questions == found.gold


def test_a_number_sign_in_a_title_is_no_reference(file: Path) -> None:
    asked = "Where was the singer of the #1 hit Reed Waltz, who had two #2 albums, born?"
    steps = [
        {"question": "Who sang the #1 hit Reed Waltz, before #2?", "answer": "Mira Holt"},
        {"question": "Is #1 of the #1 hit Reed Waltz, with two #2 albums, the one of #3?", "answer": "yes"},
        {"question": "place of birth of #1 #2", "answer": "Karn"},
    ]
    json_lines(file, [{**MUSIQUE, "question": asked, "answer": "Karn", "question_decomposition": steps}])
    [found] = read(file)[1]
    assert [sub.text for sub in found.question.sub_questions] == [
        "Who sang the #1 hit Reed Waltz, before #2?",
        "Is Mira Holt of the #1 hit Reed Waltz, with two #2 albums, the one of #3?",
        "place of birth of Mira Holt yes",
    ]


@pytest.mark.parametrize("fields", [{"metadata": {}}, {}], ids=["FlashRAG", "MuSiQue"])
def test_no_step_tells_its_own_answer_or_a_later_one(file: Path, fields: dict[str, Any]) -> None:
    steps = [{"question": f"who? {' '.join(f'#{n}' for n in range(5))}", "answer": f"a{n}"} for n in (1, 2, 3)]
    record = {"question": "?", "golden_answers": ["x"], "metadata": {"question_decomposition": steps}}
    json_lines(file, [record if fields else {**MUSIQUE, "question_decomposition": steps}])
    assert [sub.text for sub in read(file)[1][0].question.sub_questions] == [
        "who? #0 #1 #2 #3 #4",
        "who? #0 a1 #2 #3 #4",
        "who? #0 a1 a2 #3 #4",
    ]


@pytest.mark.parametrize("key", ["id", "_id", "qid"])
@pytest.mark.parametrize("write", [json_lines, parquet])
def test_a_whole_number_that_a_table_made_a_float_is_an_id(
    file: Path, key: str, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    write(file, [{key: 7.0, "question": "A?", "answers": ["x"]}, {key: None, "question": "B?", "answers": ["x"]}])
    assert [read.question.id for read in read(file)[1]] == ["7", "nq-test.qa-" + ("3" if write is json_lines else "2")]


def test_a_missing_id_in_a_column_of_floats_is_none(file: Path) -> None:
    table = {"id": pa.array([1.0, math.nan, None]), "question": ["A?", "B?", "C?"], "answers": [["x"]] * 3}
    pq.write_table(pa.table(table), file)
    assert [read.question.id for read in read(file)[1]] == ["1", "nq-test.qa-2", "nq-test.qa-3"]


def test_a_step_whose_paragraph_is_not_known_leaves_a_question_of_musique_without_gold(file: Path) -> None:
    first, *others = MUSIQUE["question_decomposition"]  # type: ignore[misc]
    json_lines(file, [{**MUSIQUE, "question_decomposition": [{**first, "paragraph_support_idx": None}, *others]}])
    _, [found] = read(file)
    assert found.gold == []
    assert [passage and passage.title for passage in found.of_sub_questions] == [None, "M. Ostrel", "Karn"]


@given(st.text(), st.text(), st.text())
def test_the_sentence_of_an_answer_holds_it_whole(before: str, answer: str, after: str) -> None:
    text = f"{before}{answer}{after}"
    sentence = sentence_with(answer, "who", text)
    assert sentence is not None and sentence in text
    assert answer.strip() in sentence


@pytest.mark.parametrize("written", ["['Karn', \"Karn's\"]", '["Karn", "Karn\'s"]'])
def test_dpr_questions_have_no_header_and_lists_of_either_kind(file: Path, written: str) -> None:
    write_cells(file, [["who died", written], ['where is "Velm"', "['north']"]], "\t")
    expected = [
        Question("nq-test.qa-1", "who died", ["Karn", "Karn's"]),
        Question("nq-test.qa-2", 'where is "Velm"', ["north"]),
    ]
    assert read(file) == ("nq-open", [Annotated(question) for question in expected])


@pytest.mark.parametrize(
    "cell", ["[{[]: 1}]", "[" * 3000 + "]" * 3000, f"[{'-' * 200_000}1]", '[it\'s "a" "b"]', "[x]"]
)
def test_a_cell_that_is_no_list_is_a_text(file: Path, cell: str) -> None:
    json_lines(file, [{"question": "Who?", "answer": cell}])
    _, [found] = read(file)
    assert found.question.answers == [cell]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True))
def test_a_list_reads_as_python_and_json_write_it(answers: list[str]) -> None:
    assert as_list(repr(answers)) == as_list(json.dumps(answers)) == answers


def test_natural_questions_in_json_lines_are_called_after_file_and_line(file: Path) -> None:
    json_lines(file, [{"question": "who", "answer": ["Karn"]}, {"question": "what", "answer": ["Velm", "Velm"]}])
    format, found = read(file)
    assert format == "nq-open"
    assert [(read.question.id, read.question.answers) for read in found] == [
        ("nq-test.qa-1", ["Karn"]),
        ("nq-test.qa-3", ["Velm"]),  # there is an empty line between them
    ]


ANSWER = {"Value": "Karn", "Aliases": ["Karn", "KARN (city)"], "NormalizedAliases": ["karn"], "HumanAnswers": ["karn!"]}


@pytest.mark.parametrize("indent", [None, 2])
def test_native_triviaqa_keeps_the_aliases_as_written(file: Path, indent: int | None) -> None:
    data = [{"Question": "Who?", "QuestionId": "tc_2", "Answer": ANSWER, "SearchResults": []}]
    file.write_text(json.dumps({"Data": data, "Version": 1.0}, indent=indent))
    expected = Annotated(Question("tc_2", "Who?", ["Karn", "KARN (city)", "karn!"]))
    assert read(file) == ("triviaqa", [expected])


def test_triviaqa_of_the_hub_is_read_without_its_web_pages(file: Path) -> None:
    answer = {"value": "Karn", "aliases": ["Karn", "KARN"], "normalized_aliases": ["karn"]}
    pages = {"title": ["Karn"], "wiki_context": ["..."]}
    parquet(file, [{"question": "Who?", "question_id": "tc_2", "answer": answer, "entity_pages": pages}])
    assert read(file) == ("triviaqa", [Annotated(Question("tc_2", "Who?", ["Karn", "KARN"]))])
    parquet(file, [{"question": "Who?", "question_id": "tc_3", "answer": {"value": "<unk>", "aliases": []}}])
    assert read(file) == ("triviaqa", [Annotated(Question("tc_3", "Who?", []))])


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_popqa_has_its_answers_as_json_in_a_cell(file: Path, delimiter: str) -> None:
    header = ["id", "subj", "prop", "obj", "question", "possible_answers"]
    write_cells(
        file, [header, ["42", "Mira", "occupation", "maker", "What, then?", '["maker", "lamp \\"maker\\""]']], delimiter
    )
    expected = Question("42", "What, then?", ["maker", 'lamp "maker"'], type="occupation")
    assert read(file) == ("popqa", [Annotated(expected)])


def test_bamboogle_has_capital_columns(file: Path) -> None:
    write_cells(file, [["Question", "Answer"], ["Who was\nthere?", "Karn"], ["Where?", "Velm"]], ",")
    format, found = read(file)
    assert format == "bamboogle"
    assert [read.question for read in found] == [
        Question("nq-test.qa-2", "Who was\nthere?", ["Karn"]),
        Question("nq-test.qa-4", "Where?", ["Velm"]),
    ]


def test_search_r1_numbers_every_data_set_from_0(file: Path) -> None:
    def record(source: str, target: list[str]) -> dict[str, Any]:
        reward = {"style": "rule", "ground_truth": {"target": target}}
        prompt = [{"role": "user", "content": "Answer the question: Who?"}]
        asked = {"id": "train_0", "question": "Who?", "golden_answers": ["Karn"]}
        return {**asked, "data_source": source, "prompt": prompt, "reward_model": reward}

    parquet(file, [record("nq", ["Karn", "Tamm"]), record("hotpotqa", ["Karn"])])
    format, found = read(file)
    assert format == "search-r1"
    assert [(read.question.id, read.question.answers) for read in found] == [
        ("nq/train_0", ["Karn", "Tamm"]),
        ("hotpotqa/train_0", ["Karn"]),
    ]


def test_flashrag_keeps_what_the_sources_said_in_its_metadata(file: Path) -> None:
    base = {"question": "Who?", "golden_answers": ["Tamm"]}
    steps = [
        {"question": "Ostrel >> maker", "answer": "Mira", "support_paragraph": MUSIQUE["paragraphs"][0]},  # type: ignore[index]
    ]
    facts = {"type": "bridge", "supporting_facts": FACT_COLUMNS, "context": PARAGRAPH_COLUMNS}
    metadata: list[dict[str, Any] | None] = [facts, {"question_decomposition": steps}, {}, None]
    json_lines(file, [{"id": f"dev_{n}", **base, "metadata": each} for n, each in enumerate(metadata)])
    format, found = read(file)
    assert format == "flashrag"
    assert [read.question.id for read in found] == ["dev_0", "dev_1", "dev_2", "dev_3"]
    assert (found[0].gold, found[0].question.evidence, found[0].question.type) == (GOLD, EVIDENCE, "bridge")
    assert [sub.text for sub in found[1].question.sub_questions] == ["Ostrel maker"]
    assert found[2] == Annotated(Question("dev_2", "Who?", ["Tamm"]))


def test_searchlm_has_one_answer_or_a_list(file: Path) -> None:
    json_list(
        file,
        [
            {"query_id": 7, "question": "Who?", "answer": "Karn"},
            {"query_id": "8", "question": "What?", "answer": ["A b", "c"]},
        ],
    )
    format, found = read(file)
    assert format == "searchlm"
    assert [(read.question.id, read.question.answers) for read in found] == [("7", ["Karn"]), ("8", ["A b", "c"])]


def test_kilt_takes_every_answer_and_the_pages_of_the_first_output_that_has_some(file: Path) -> None:
    pages = [
        {"wikipedia_id": "12", "title": "Karn", "start_paragraph_id": 3, "meta": {"evidence_span": ["Karn is."]}},
        {"wikipedia_id": "13", "title": "Velm", "bleu_score": 1.0},
        {"wikipedia_id": "12", "title": "Karn", "start_paragraph_id": 4, "meta": {"evidence_span": ["Tamm is."]}},
    ]
    other = [{"wikipedia_id": "99", "title": "Else"}]
    output = [{"answer": "Karn"}, {"provenance": pages}, {"answer": "KARN", "provenance": other}]
    json_lines(file, [{"id": "k1", "input": "Who?", "output": output, "meta": {}}])
    gold = [NamedPassage(title="Karn", sentences=("Karn is.", "Tamm is.")), NamedPassage(title="Velm")]
    assert read(file) == ("kilt", [Annotated(Question("k1", "Who?", ["Karn", "KARN"]), gold)])


def test_plain_files_have_an_answer_or_answers_and_perhaps_ids(file: Path, tmp_path: Path) -> None:
    json_lines(file, [{"question": "Who?", "answer": 1821, "id": 0}, {"question": "What?", "answers": ["a", "b"]}])
    format, found = read(file)
    assert format == "plain"
    assert [read.question for read in found] == [
        Question("0", "Who?", ["1821"]),
        Question("nq-test.qa-3", "What?", ["a", "b"]),
    ]
    write_cells(
        tmp_path / "cells.csv", [["id", "question", "answers"], ["x", "Who?", "['a']"], ["y", "What?", "b, c"]], ","
    )
    format, found = read(tmp_path / "cells.csv")
    assert [read.question for read in found] == [Question("x", "Who?", ["a"]), Question("y", "What?", ["b, c"])]


@pytest.mark.parametrize("name", ["id", "question_id", "query_id", "_id", "qid"])
def test_plain_records_have_their_id_under_any_name_that_predictions_have(file: Path, name: str) -> None:
    json_lines(file, [{name: "7", "question": "A?", "answers": ["x"]}, {name: 8, "question": "B?", "answers": "y"}])
    expected = [Annotated(Question("7", "A?", ["x"])), Annotated(Question("8", "B?", ["y"]))]
    assert read(file) == ("plain", expected)


def test_a_question_id_makes_no_triviaqa_without_an_object_for_an_answer(file: Path) -> None:
    json_lines(file, [{"question_id": "7", "question": "A?", "answer": "x", "qid": "no", "id": None}])
    assert read(file) == ("plain", [Annotated(Question("7", "A?", ["x"]))])


def test_a_plain_file_has_one_answer_here_and_a_list_there(file: Path) -> None:
    records = [{"question": "A?", "answer": ["y", "z"]}, {"question": "B?", "answer": "x"}]
    for written in (records, records[::-1]):
        json_list(file, written)
        format, found = read(file)
        assert format == "plain"
        assert [read.question.answers for read in found] == [as_list(record["answer"]) for record in written]


@pytest.mark.parametrize("key", ["answer", "golden_answers", "possible_answers"])
def test_a_number_among_nulls_is_an_integer_and_nan_is_no_answer(file: Path, key: str) -> None:
    asked = {"id": [1, 2, 3, 4], "question": ["A?", "B?", "C?", "D?"]}
    pq.write_table(pa.table({**asked, key: pa.array([1914.0, math.nan, None, 2.5])}), file)
    assert [read.question.answers for read in read(file)[1]] == [["1914"], [], [], ["2.5"]]
    pq.write_table(pa.table({**asked, key: [[1914.0, math.nan], [None], [], [2.5, 1914.0]]}), file)
    assert [read.question.answers for read in read(file)[1]] == [["1914"], [], [], ["2.5", "1914"]]


def test_a_number_is_an_integer_in_the_steps_of_a_decomposition_as_well(file: Path) -> None:
    paragraph = {"title": "Karn", "paragraph_text": "Karn is old. It burnt in 1914."}
    steps = [
        {"question": "when did it burn", "answer": 1914.0, "support_paragraph": paragraph},
        {"question": "what was in #1, not in #3", "answer": "a war", "support_paragraph": paragraph},
        {"question": "who", "answer": None, "support_paragraph": paragraph},
    ]
    json_lines(file, [{"question": "?", "golden_answers": ["x"], "metadata": {"question_decomposition": steps}}])
    assert read(file)[1][0].question.sub_questions == [
        SubQuestion("when did it burn", ["1914"], evidence="It burnt in 1914."),
        SubQuestion("what was in 1914, not in #3", ["a war"]),
        SubQuestion("who", []),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfquestion,answer\nWho?,Karn\n")
    assert read(file)[1] == [Annotated(Question("nq-test.qa-2", "Who?", ["Karn"]))]


texts = st.text(min_size=1).filter(lambda text: bool(normalise(text)))
aliases = st.lists(texts, min_size=1, max_size=3)
passage_ids = st.text(min_size=1, max_size=5)
sub_questions = st.builds(
    SubQuestion,
    st.text(),
    st.lists(st.text(), max_size=2),
    st.none() | passage_ids,
    st.none() | st.text(),
    st.none() | st.text(),
)
questions = st.builds(
    Question,
    st.text(),
    texts,
    aliases,
    st.none() | st.text(),
    st.none() | st.integers(0, 9),
    st.lists(passage_ids, max_size=3, unique=True),
    st.lists(sub_questions, max_size=2),
    st.lists(st.text(), max_size=2),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(questions, min_size=1, max_size=4, unique_by=lambda question: question.id))
def test_importing_our_own_file_changes_nothing(tmp_path: Path, asked: list[Question]) -> None:
    write_jsonl(tmp_path / "in.jsonl", asked)
    import_questions([tmp_path / "in.jsonl"], tmp_path / "out.jsonl")
    assert read_questions(tmp_path / "out.jsonl") == asked


PLAIN = '{"question": "Who?", "answer": "Karn"}\n'
BAD: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("\n \n", "is empty"),
    "two formats": (
        PLAIN + "\n" + json.dumps(MUSIQUE),
        "line 3: is in the format musique, but the records before it in plain",
    ),
    "foreign keys": ('{"premise": "x", "label": 1}', "line 1: is in none of the known formats"),
    "a torn line": (PLAIN + '{"question": "Wh', "line 2: not valid JSON (it ends too early)"),
    "a torn first line": ('{"question": "Wh', "line 1: not valid JSON (it ends too early)"),
    "a torn list": ('[{"question": "Who?", "answer": "Karn"},', "not valid JSON (it ends too early)"),
    "a list of texts": ('["Who?"]', 'item 1: must be an object, not "Who?"'),
    "no UTF-8": (PLAIN.encode() + b'{"question": "\xff", "answer": "x"}', "line 2: not UTF-8 (byte 15)"),
    "no question": ('{"question": null, "answer": "Karn"}', "line 1: 'question' must be a string, not null"),
    "true for an answer": (
        '{"question": "Is it?", "answer": true}',
        "line 1: 'answer' must be a string or a number or",
    ),
    "nested without end": ('{"question": ' + "[" * 9999, "line 1: nested too deeply"),
    "two columns of something else": ("q1\tWho?\n", "line 1: neither JSON nor column names"),
    "no header": ("Who?,Karn\nWhat?,Velm\n", "line 1: neither JSON nor column names"),
    "a cell too many": ("question,answer\nWho?,Karn\n\nWhat?,Velm,x\n", "line 4: has 3 columns, not 2"),
    "a quote that is never closed": (
        'question,answer\nWho?,"Karn\nWhat?,Velm\n',
        "line 2: not quoted as CSV is: a quote opens a cell and is never closed",
    ),
    "a quote that closes within a cell": (
        'question,answer\nWho?,"Karn\nWhat?,"Velm"\n',
        "line 2: not quoted as CSV is: there is text between a closing quote and the end of its cell",
    ),
    "a stray quote between tabs": (
        'question\tanswer\nWho?\tKarn\n"What?\tVelm\nWhen?\t1821\nHow"\tso\n',
        "line 3: a quote opens a cell here that would end 2 lines further on, and swallow rows",
    ),
    "a stray quote in a file of DPR": (
        'who\t["a"]\nwhat\t"[1\nwhen\t[2]\nhow\t[3"\n',
        "line 2: a quote opens a cell here that would end 2 lines further on, and swallow rows",
    ),
    "a stray quote between commas": (
        'id,question,answer\n1,Who?,Karn\n2,"What?,Velm\n3,"When?",1821\n4,How",so\n',
        "line 3: ",
    ),
    "a stray quote between commas that takes in numbered rows": (
        'id,question,answer\n1,Who?,Karn\n2,"What?,Velm\n3,When?,1821\n4,How",so\n',
        "line 3: a quote opens a cell here that would end 2 lines further on, and swallow rows",
    ),
    "lines of an old Macintosh": ("Who?,Karn\rWhat?,Velm\r", "its lines end in carriage returns only"),
    "two columns of one name": ("question,answer,answer\nWho?,Karn,Velm\n", "two columns called 'answer'"),
    "an object over several lines": ('{"question":\n"Who?", "answer": "x"}', "an object must stand on one line"),
    "cells that are no UTF-8": (b"question,answer\nWho?,\xff\n", "line 2: not UTF-8 (byte 6)"),
    "torn gzip": (gzip.compress(PLAIN.encode() * 99, mtime=0)[:-20], ": broken gzip file: it ends too early"),
    "damaged gzip": (
        gzip.compress(PLAIN.encode() * 99, mtime=0)[:-4] + b"\0\0\0\0",
        ": broken gzip file: its content is damaged",
    ),
    "torn parquet": (b"PAR1" + b"\0" * 30, ": broken Parquet file; write or download it again"),
    "NaN": ('{"question": "Who?", "answer": NaN}\n', "line 1: not valid JSON (NaN is not JSON; write null)"),
    "NaN further down": (PLAIN + '{"question": NaN}\n', "line 2: not valid JSON (NaN is not JSON; write null)"),
    "NaN in a list": (
        '[{"question": "Who?", "answer": Infinity}]',
        "not valid JSON (Infinity is not JSON; write null)",
    ),
    "UTF-16": (PLAIN.encode("utf-16"), ": is written in UTF-16; save it as UTF-8"),
    "UTF-16 without a mark": ("question,answer\nx,y\n".encode("utf-16-le"), ": is written in UTF-16; save it as UTF-8"),
    "packed UTF-16": (
        gzip.compress("question\tanswer\n".encode("utf-16"), mtime=0),
        ": is written in UTF-16; save it as UTF-8",
    ),
    "packed by Zstandard": (b"\x28\xb5\x2f\xfd\x04", ": is packed by Zstandard; unpack it first (unzstd)"),
    "packed by xz": (lzma.compress(PLAIN.encode()), ": is packed by xz; unpack it first (unxz)"),
    "a cell that is no JSON": (
        json.dumps({**ASKED, "supporting_facts": [], "context": "[[", "evidences": "[]"}),
        "line 1: 'context': not valid JSON (it ends too early) (read as 2wikimultihopqa)",
    ),
    "columns of unequal length": (
        json.dumps({**ASKED, "supporting_facts": {"title": ["a"], "sent_id": []}, "context": PARAGRAPHS}),
        "line 1: its columns differ in length: title has 1, sent_id has 0 (read as hotpotqa)",
    ),
    "paragraphs without sentences": (
        json.dumps({**ASKED, "context": {"title": ["a", "b"], "content": []}}),
        "line 1: its columns differ in length: title has 2, sentences has 0",
    ),
    "fewer ids than triples": (
        json.dumps({**ASKED, "context": PARAGRAPHS, "evidences": TRIPLES, "evidences_id": TRIPLES[:1]}),
        "line 1: its columns differ in length: evidences has 2, evidences_id has 1",
    ),
    "a cell nested without end": (
        json.dumps({**ASKED, "context": "[" * 9999, "evidences": "[]"}),
        "line 1: 'context': nested too deeply",
    ),
    "a paragraph that is not there": (
        json.dumps(MUSIQUE) + "\n" + json.dumps({**MUSIQUE, "paragraphs": MUSIQUE["paragraphs"][:3]}),  # type: ignore[index]
        "line 2: the paragraph_support_idx of step 3 is 3, which is not the idx of a paragraph; add the paragraph, or",
    ),
    "two paragraphs of one number": (
        json.dumps({**MUSIQUE, "paragraphs": [{"idx": 0, "title": "Karn", "paragraph_text": "Karn."}] * 2}),
        "line 1: two paragraphs have the same idx",
    ),
    "an array of NumPy": (
        "question,answer\nWho?,['x']\nWhere?,['Karn' 'City of Karn']\n",
        "line 3: a list has items without a comma between them, as NumPy and pandas print it; write it with commas or",
    ),
    "an array of NumPy over two lines": (
        """question,answers\nWhere?,"['Karn'\n ""Karn's"" ... 'x']"\n""",
        "line 2: a list has items without a comma",
    ),
    "an array of numbers": (
        "question,answer\nWhen?,[1914 1918]\n",
        "line 2: a list has items without a comma",
    ),
    "a list with one comma too few": (
        """{"query_id": 1, "question": "Where?", "answer": "['Karn', \\"It's\\" 'x']"}""",
        "line 1: a list has items without a comma",
    ),
    "an id that is none": (
        '{"question": "Who?", "answer": "x", "_id": {"$oid": "7"}}',
        "line 1: '_id' must be a string or a number or null, not an object (read as plain)",
    ),
    "an id that is no whole number": (
        '{"question": "Who?", "answer": "x", "_id": 1.5}',
        "line 1: its id is 1.5; it must be a string or a whole number (read as plain)",
    ),
}


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_quoted_cell_goes_on_over_lines(file: Path, delimiter: str) -> None:
    texts = ["Who was,\nthere, then?", 'One,\ntwo, "three",\nfour?', "1, first\nor 2, last\n\n?"]
    rows = [[str(number), text, "x, y\nz"] for number, text in enumerate(texts)]
    write_cells(file, [["id", "question", "answer"], *rows], delimiter)
    assert [(read.question.text, read.question.answers) for read in read(file)[1]] == [(t, ["x, y\nz"]) for t in texts]
    write_cells(file, [["question", "answer"], *(row[1:] for row in rows)], delimiter)
    assert [read.question.id for read in read(file)[1]] == ["nq-test.qa-2", "nq-test.qa-5", "nq-test.qa-9"]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_integers_among_nulls_that_a_table_wrote_as_floats_are_integers(file: Path, delimiter: str) -> None:
    rows = [["1.0", "When?", "1914.0"], ["2.0", "Who?", ""], ["3.0", "How many?", "-7.0"], ["4.0", "How much?", "2.5"]]
    write_cells(file, [["id", "question", "answer"], *rows], delimiter)
    found = [(read.question.id, read.question.answers) for read in read(file)[1]]
    assert found == [("1", ["1914"]), ("2", []), ("3", ["-7"]), ("4", ["2.5"])]


def test_a_float_beside_a_whole_number_in_a_column_of_text_is_meant_as_it_is(file: Path) -> None:
    write_cells(file, [["question", "answer"], ["When?", "1914"], ["Which version?", "2.0"], ["Who?", "Karn"]], ",")
    assert [read.question.answers for read in read(file)[1]] == [["1914"], ["2.0"], ["Karn"]]


def test_a_number_without_end_is_no_reference(file: Path) -> None:
    long = "#" + "1" * 5000
    json_lines(file, [{**MUSIQUE, "question_decomposition": [{"question": long, "answer": "x"}]}])
    [found] = read(file)[1]
    assert [sub.text for sub in found.question.sub_questions] == [long]


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_the_place(file: Path, case: str) -> None:
    content, complaint = BAD[case]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as error:
        list(QuestionFile(file, known_formats()))
    assert str(error.value).startswith(str(file))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pipe_cannot_be_read_twice_and_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        list(QuestionFile(tmp_path / "pipe", known_formats()))


def test_times_that_python_has_not_are_no_reason_to_refuse_a_table(file: Path) -> None:
    table = {"question": ["Who?"], "answer": ["Karn"], "at": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))}
    pq.write_table(pa.table(table), file)
    assert [found.question.answers for found in read(file)[1]] == [["Karn"]]


def test_a_named_format_is_not_recognised_but_used(file: Path) -> None:
    json_lines(file, [{"question": "Who?", "answer": ["Karn"]}, {"question": "What?", "answer": "x", "query_id": 1}])
    with pytest.raises(UsageError, match=r"line 3: is in the format searchlm, but the records before it in nq-open"):
        list(QuestionFile(file, known_formats()))
    assert len(list(QuestionFile(file, known_formats(), "plain"))) == 2
    with pytest.raises(UsageError, match=r"line 1: 'id' is missing \(read as musique\)"):
        list(QuestionFile(file, known_formats(), "musique"))
    with pytest.raises(UsageError, match=r"unknown format 'popq' .*; did you mean 'popqa'"):
        QuestionFile(file, known_formats(), "popq")
