"""Comparing two evaluations: paired by question, refused where the conditions differ, and broken down to their sum."""

import json
import math
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.cli.compare import compare as command
from exsearch.config import AgentConfig
from exsearch.core.atomic import remove
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_jsonl
from exsearch.evaluation.compare import Comparison, compare
from exsearch.evaluation.evaluate import aggregate
from exsearch.evaluation.folder import QUESTIONS, TRAJECTORIES, Evaluated
from exsearch.evaluation.protocol import PROTOCOL, Protocol, make_protocol, write_protocol
from exsearch.evaluation.scores import LIKELIHOODS, LikelihoodOf, QuestionScore, Scores, read_scores, write_scores
from exsearch.questions.question import Question
from exsearch.runs.evaluations import read_evaluation
from made_up_run import make_run

ASKED = [
    Question(
        f"q{n}", f"What is number {n}?", [f"answer {n}"], type="bridge" if n % 2 else "comparison", hops=1 + n // 4
    )
    for n in range(8)
]
RIGHT_A = [1, 0, 0, 0, 0, 0, 0, 1]
RIGHT_B = [0, 1, 1, 1, 1, 1, 1, 1]


def row(id_: str, em: float, searches: int = 2, stop: str = "answered", recall: float | None = 0.5) -> QuestionScore:
    return QuestionScore(
        question_id=id_,
        em=em,
        f1=em / 2,
        acc=em,
        recall=recall,
        searches=searches,
        tokens=10 * searches,
        answer_logprob=-1.0 - em if stop == "answered" else None,
        stop_reason=stop,
    )


def write(
    folder: Path, rows: list[QuestionScore], questions: list[Question] = ASKED, agent: AgentConfig | None = None
) -> Path:
    """Write the folder of an evaluation whose answers are `yes` where they are right, else none."""
    protocol = make_protocol(agent or AgentConfig(), "index", questions)
    known = {question.id: question for question in questions}
    write_scores(folder, aggregate(folder.name, rows, [known[r.question_id] for r in rows], protocol.fingerprint))
    write_protocol(folder / PROTOCOL, protocol)
    write_jsonl(folder / QUESTIONS, questions)
    answers = [{"question_id": r.question_id, "answer": "yes" if r.em else None} for r in rows]
    write_jsonl(folder / TRAJECTORIES, answers)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A and B of the same protocol; B is right on six questions more and wrong on one."""
    a = [row(q.id, em, stop="answered" if em else "max_steps") for q, em in zip(ASKED, RIGHT_A, strict=True)]
    b = [row(q.id, em, searches=3 if em else 2) for q, em in zip(ASKED, RIGHT_B, strict=True)]
    return write(tmp_path / "a", a), write(tmp_path / "b", b)


def compared(a: Path, b: Path, metric: str = "em", across: bool = False) -> Comparison:
    return compare(read_evaluation(a), read_evaluation(b), metric, across)


def test_differences_are_those_computed_by_hand(pair: tuple[Path, Path]) -> None:
    found = compared(*pair)
    assert (found.a, found.b, found.n, found.only_a, found.only_b) == ("a", "b", 8, 0, 0)
    by_metric = {each.metric: each for each in found.differences}
    assert set(by_metric) >= {"em", "f1", "acc", "recall", "searches", "tokens", "answer_probability", "malformed"}
    em = by_metric["em"]
    assert (em.a, em.b, em.difference.mean, em.difference.n, em.differing) == (0.25, 0.875, 0.625, 8, 7)
    assert em.difference.low > 0 and em.significant
    assert by_metric["f1"].difference.mean == 0.3125
    assert by_metric["searches"].difference.mean == 0.875
    assert not by_metric["recall"].significant
    found_p = by_metric["answer_probability"]
    p_a, p_b = 2 * math.exp(-2) / 8, (7 * math.exp(-2) + math.exp(-1)) / 8
    assert (found_p.a, found_p.b) == (pytest.approx(p_a, abs=1e-5), pytest.approx(p_b, abs=1e-5))
    assert found_p.difference.n == 8, "a question that was not answered counts as 0"
    assert "answer_logprob" not in by_metric


@pytest.mark.parametrize(
    ("of_a", "of_b", "of_one_event"),
    [
        ("spellings", "spellings", True),
        ("aliases", "aliases", True),
        ("aliases", "spellings", False),
        ("mixed", "mixed", False),
    ],
)
def test_probabilities_of_different_events_are_not_compared(
    pair: tuple[Path, Path], of_a: LikelihoodOf, of_b: LikelihoodOf, of_one_event: bool
) -> None:
    for folder, of in zip(pair, (of_a, of_b), strict=True):
        write_scores(folder, msgspec.structs.replace(read_scores(folder), likelihood_of=of))
    found = compared(*pair)
    assert {each.metric for each in found.differences}.isdisjoint(LIKELIHOODS) != of_one_event
    assert {"em", "f1"} <= {each.metric for each in found.differences}


def test_wins_losses_and_ties_name_their_questions_and_answers(pair: tuple[Path, Path]) -> None:
    found = compared(*pair)
    assert [win.question_id for win in found.wins] == [f"q{n}" for n in range(1, 7)]
    assert [loss.question_id for loss in found.losses] == ["q0"] and found.ties == ["q7"]
    [loss] = found.losses
    assert (loss.question, loss.gold) == ("What is number 0?", ["answer 0"])
    assert (loss.a, loss.answer_a, loss.b, loss.answer_b) == (1.0, "yes", 0.0, None)


def test_the_difference_is_broken_down_without_a_rest(pair: tuple[Path, Path]) -> None:
    found = compared(*pair)
    assert set(found.breakdowns) == {"hops", "type", "stop reason", "more searches"}
    hops = found.breakdowns["hops"]
    assert [(g.name, g.wins, g.losses, g.ties, g.share) for g in hops] == [("1", 3, 1, 0, 0.25), ("2", 3, 0, 1, 0.375)]
    stops = {group.name: (group.difference.n, group.wins) for group in found.breakdowns["stop reason"]}
    assert stops == {"answered -> answered": (2, 0), "max_steps -> answered": (6, 6)}
    assert [group.name for group in found.breakdowns["more searches"]] == ["0", "+1"]
    for groups in found.breakdowns.values():
        assert sum(group.share for group in groups) == pytest.approx(0.625)
        assert sum(group.difference.n for group in groups) == 8


def test_five_questions_that_differ_are_too_few_to_tell_apart(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [row(q.id, 0) for q in ASKED])
    five = write(tmp_path / "five", [row(q.id, float(n < 5)) for n, q in enumerate(ASKED)])
    six = write(tmp_path / "six", [row(q.id, float(n < 6)) for n, q in enumerate(ASKED)])
    assert compared(a, five).differences[0].difference.low > 0
    assert not compared(a, five).differences[0].significant
    assert compared(a, six).differences[0].significant


def test_questions_are_paired_by_id_not_by_place(pair: tuple[Path, Path]) -> None:
    a, b = pair
    straight = compared(a, b)
    scores = read_json(b / "scores.json", Scores)
    write_scores(b, msgspec.structs.replace(scores, questions=scores.questions[::-1]))
    assert compared(a, b) == straight


def test_different_protocols_are_refused_with_the_fields_that_differ(pair: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [row(q.id, 1) for q in ASKED]
    other = write(tmp_path / "other", rows, agent=AgentConfig(passages=7, max_steps=2))
    with pytest.raises(UsageError) as error:
        compared(pair[0], other)
    said = str(error.value)
    assert "agent.max_steps is 5 and 2; agent.passages is 3 and 7" in said
    assert "index is" not in said and "grammar is" not in said and "--across-protocols" in said
    found = compared(pair[0], other, across=True)
    assert [(each.field, each.a, each.b) for each in found.protocol_differences] == [
        ("agent.max_steps", 5, 2),
        ("agent.passages", 3, 7),
    ]
    assert found.n == 8


@settings(max_examples=10)
@given(
    changed=st.sets(st.sampled_from(["question_count", "index", "normaliser", "temperature", "version"]), min_size=1)
)
def test_whatever_differs_in_a_protocol_is_named_and_nothing_else(changed: set[str]) -> None:
    protocol = make_protocol(AgentConfig(), "index", ASKED)
    values = {"question_count": 1, "index": "i", "normaliser": "n", "temperature": 0.5, "version": 9}
    other = msgspec.structs.replace(protocol, **{field: values[field] for field in changed})
    a, b = evaluated(protocol), evaluated(other)
    with pytest.raises(UsageError) as error:
        compare(a, b)
    named = {field for field in Protocol.__struct_fields__ if f" {field} is " in str(error.value)}
    assert named == changed


def test_methods_compare_under_the_same_conditions() -> None:
    one, other = (make_protocol(AgentConfig(grammar=grammar), "index", ASKED) for grammar in ("exsearch", "one-shot"))
    assert one.method != other.method
    assert compare(evaluated(one), evaluated(other)).n == len(ASKED)


def evaluated(protocol: Protocol) -> Evaluated:
    rows = [row(q.id, 1) for q in ASKED]
    scores = aggregate("m", rows, ASKED, protocol.fingerprint)
    return Evaluated(Path("m"), scores, msgspec.to_builtins(protocol), {}, {})


def test_a_refusal_without_a_protocol_file_says_so(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other", [row(q.id, 1) for q in ASKED], agent=AgentConfig(passages=7))
    remove(other / PROTOCOL)
    with pytest.raises(UsageError, match=r"the difference is unknown, because protocol\.json is missing for .*other"):
        compared(pair[0], other)


def test_across_protocols_only_common_questions_count_and_the_rest_is_told(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [row(q.id, 1) for q in ASKED[:6]], ASKED[:6])
    reworded = [msgspec.structs.replace(ASKED[3], text="Another question of this id?")]
    b = write(tmp_path / "b", [row(q.id, 0) for q in ASKED[2:]], ASKED[2:3] + reworded + ASKED[4:])
    found = compared(a, b, across=True)
    assert (found.n, found.only_a, found.only_b) == (3, 3, 3)
    assert [loss.question_id for loss in found.losses] == ["q2", "q4", "q5"]
    c = write(tmp_path / "c", [row("q7", 0)], ASKED[7:])
    with pytest.raises(UsageError, match="no question in common"):
        compared(a, c, across=True)


def test_scores_that_lack_questions_of_their_protocol_are_refused(pair: tuple[Path, Path]) -> None:
    a, b = pair
    scores = read_json(b / "scores.json", Scores)
    write_scores(b, msgspec.structs.replace(scores, questions=scores.questions[1:]))
    with pytest.raises(UsageError, match="scores of different questions"):
        compared(a, b)


def test_another_metric_sorts_the_questions_and_an_unknown_one_is_refused(pair: tuple[Path, Path]) -> None:
    found = compared(*pair, metric="searches")
    assert len(found.wins) == 7 and not found.losses
    with pytest.raises(UsageError, match="metric 'em1': the scores have em, f1"):
        compared(*pair, metric="em1")
    with pytest.raises(UsageError, match="metric 'stop_reason'"):
        compared(*pair, metric="stop_reason")


outcome = st.sampled_from([0.0, 0.5, 1.0])
ending = st.sampled_from(["answered", "max_steps", "malformed"])
results = st.lists(
    st.tuples(outcome, outcome, st.integers(0, 4), st.integers(0, 4), ending, ending), min_size=1, max_size=8
)


def both(found: list[tuple[float, float, int, int, str, str]]) -> tuple[Evaluated, Evaluated]:
    a = [row(f"q{n}", em, searches, stop) for n, (em, _, searches, _, stop, _) in enumerate(found)]
    b = [row(f"q{n}", em, searches, stop) for n, (_, em, _, searches, _, stop) in enumerate(found)]
    protocol = make_protocol(AgentConfig(), "index", ASKED[: len(found)]).fingerprint
    known = {q.id: q for q in ASKED}
    asked = ASKED[: len(found)]
    return (
        Evaluated(Path("a"), aggregate("a", a, asked, protocol), {}, known, {}),
        Evaluated(Path("b"), aggregate("b", b, asked, protocol), {}, known, {}),
    )


@settings(max_examples=6)
@given(results)
def test_an_evaluation_equals_itself(found: list[tuple[float, float, int, int, str, str]]) -> None:
    a, _ = both(found)
    same = compare(a, a)
    assert same.a != same.b
    assert not same.wins and not same.losses and len(same.ties) == len(found)
    for each in same.differences:
        assert (each.difference.mean, each.difference.low, each.difference.high) == (0, 0, 0)
        assert not each.significant
    for groups in same.breakdowns.values():
        assert all((group.difference.low, group.difference.high, group.share) == (0, 0, 0) for group in groups)


@settings(max_examples=6)
@given(results)
def test_swapping_the_two_swaps_wins_and_losses_and_flips_signs(
    found: list[tuple[float, float, int, int, str, str]],
) -> None:
    there, back = compare(*both(found)), compare(*both(found)[::-1])
    assert [win.question_id for win in there.wins] == [loss.question_id for loss in back.losses]
    assert there.ties == back.ties
    for one, other in zip(there.differences, back.differences, strict=True):
        assert (one.a, one.b, one.significant) == (other.b, other.a, other.significant)
        mirrored = (-other.difference.mean, -other.difference.high, -other.difference.low)
        assert (one.difference.mean, one.difference.low, one.difference.high) == pytest.approx(mirrored, abs=2e-5)
    for kind, groups in there.breakdowns.items():
        assert sum(group.share for group in groups) == pytest.approx(
            -sum(group.share for group in back.breakdowns[kind]), abs=1e-4
        )


def test_models_of_a_run_are_compared_with_its_protocol_and_questions(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=12, train=2)
    test = compared(run / "eval" / "warmup", run / "eval" / "iter-2")
    assert (test.a, test.b, test.n) == ("warmup", "iter-2", 12)
    assert {"2", "3"} <= {group.name for group in test.breakdowns["hops"]}
    dev = compared(run / "warmup-eval", run / "iter-2" / "eval")
    assert dev.n == 6 and "type" in dev.breakdowns
    assert "type" in compared(run / "train-eval" / "warmup", run / "train-eval" / "iter-1").breakdowns
    with pytest.raises(UsageError, match=r"is a run; name the folder of one of its models: .*eval/closed-book"):
        read_evaluation(run)


def test_questions_may_come_from_a_file_where_the_folder_has_none(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for folder in pair:
        remove(folder / QUESTIONS)
    assert set(compared(*pair).breakdowns) == {"stop reason", "more searches"}
    write_jsonl(tmp_path / "all.jsonl", [*ASKED, Question("more", "And?", ["x"])])
    found = compare(*(read_evaluation(folder, tmp_path / "all.jsonl") for folder in pair))
    assert [group.name for group in found.breakdowns["type"]] == ["bridge", "comparison"]
    write_jsonl(tmp_path / "few.jsonl", ASKED[1:])
    with pytest.raises(UsageError, match=rf"few\.jsonl: lacks 1 questions scored in .*, the first '{ASKED[0].id}'"):
        read_evaluation(pair[0], tmp_path / "few.jsonl")


def test_a_folder_s_own_questions_are_those_that_were_scored(pair: tuple[Path, Path], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "other.jsonl", [msgspec.structs.replace(question, text="Other?") for question in ASKED])
    found = read_evaluation(pair[0], tmp_path / "other.jsonl")
    assert list(found.questions.values()) == ASKED


def test_a_folder_that_is_no_finished_evaluation_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_evaluation(tmp_path / "absent")
    remove(pair[0] / "scores.json")
    with pytest.raises(UsageError, match=r"has no scores\.json"):
        read_evaluation(pair[0])


def test_a_protocol_of_other_scores_is_refused(pair: tuple[Path, Path]) -> None:
    write_protocol(pair[0] / PROTOCOL, make_protocol(AgentConfig(passages=9), "index", ASKED))
    with pytest.raises(UsageError, match=r"its fingerprint is not \w+, that of the protocol"):
        read_evaluation(pair[0])


def test_the_command_prints_the_verdicts_and_where_they_come_from(pair: tuple[Path, Path]) -> None:
    result = CliRunner().invoke(command, [*map(str, pair)])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    [em] = [line.split() for line in lines if line.startswith("em ")]
    assert em[:4] == ["em", "0.250", "0.875", "+0.625"] and em[-1] == "significant"
    assert "em: wins (B higher) 6, losses (A higher) 1, ties 1" in lines
    assert "wins, 5 of 6" in lines and "  q0  What is number 0?" in lines
    data = json.loads(CliRunner().invoke(command, [*map(str, pair), "--json"]).output)
    assert msgspec.convert(data, Comparison) == compared(*pair)


def test_wordings_that_differ_compare_and_are_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    agent = AgentConfig(prompt="The answer is always Ann. {question}")
    other = write(tmp_path / "other", [row(q.id, 1) for q in ASKED], agent=agent)
    result = CliRunner().invoke(command, [str(pair[0]), str(other)])
    assert result.exit_code == 0
    assert result.output.splitlines()[3].startswith("  grammar: ")


def test_what_a_model_said_cannot_steer_the_terminal(pair: tuple[Path, Path]) -> None:
    answers = [{"question_id": q.id, "answer": "\x1b[31mred\nline"} for q in ASKED]
    write_jsonl(pair[0] / TRAJECTORIES, answers)
    output = CliRunner().invoke(command, [*map(str, pair)]).output
    assert "\x1b" not in output and "[31mred line" in output
