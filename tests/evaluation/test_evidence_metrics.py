"""What trajectories read and recorded."""

import pytest

from exsearch.agent.trajectory import Step
from exsearch.corpus.passage import Hit, Passage
from exsearch.evaluation.evidence_metrics import Reading, answer_recorded, grounded, reading, supports

TEXTS = {
    "curie": "Marie Curie was born in Warsaw in 1867.",
    "river": "The Vistula flows through Warsaw.",
    "other": "Lyon lies on the Rhône.",
}


def step(*passages: str, evidence: str | None = None) -> Step:
    hits = [Hit(Passage(p, p.title(), TEXTS[p]), 1.0, rank) for rank, p in enumerate(passages, start=1)]
    return Step("query", hits, evidence)


def test_gold_passages_are_counted_once_however_often_they_are_read() -> None:
    found = reading(["curie", "river"], [step("curie", "other"), step("curie", "other")])
    assert found == Reading(recall=0.5, precision=0.5, step_recall=0.5, step_precision=0.5, any_gold=1.0)


def test_a_trajectory_can_read_all_though_no_step_does() -> None:
    found = reading(["curie", "river"], [step("curie"), step("river", "other")])
    assert (found.recall, found.step_recall) == (1.0, 0.5)
    assert (found.precision, found.step_precision) == (2 / 3, 0.75)


def test_what_was_not_read_is_missed_and_has_no_precision() -> None:
    assert reading(["curie"], []) == Reading(recall=0.0, any_gold=0.0)
    assert reading(["curie"], [step()]) == Reading(recall=0.0, step_recall=0.0, any_gold=0.0)
    assert reading([], [step("curie")]) == Reading()


@pytest.mark.parametrize(
    ("fact", "supported"),
    [
        ("Marie Curie was born in Warsaw.", True),
        ("Curie: born Warsaw, 1867", True),
        ("Marie Curie was born in Lyon.", False),
        ("Marie Curie, born in Warsaw, studied in Paris under Becquerel.", False),
    ],
)
def test_a_passage_supports_a_fact_with_four_fifths_of_its_content_words(fact: str, supported: bool) -> None:
    assert supports("Curie", TEXTS["curie"], fact) == supported


def test_a_fact_must_rest_on_one_passage_of_its_own_step() -> None:
    born = "Marie Curie was born in Warsaw."
    assert grounded([step("curie", evidence=born), step("river", evidence=born)]) == 0.5
    both = "Marie Curie was born in 1867 where the Vistula flows through Warsaw."
    assert grounded([step("curie", "river", evidence=both)]) == 0.0
    assert grounded([step("curie", evidence=None), step("curie", evidence=" ")]) is None


def test_an_answer_comes_from_a_fact_that_says_it() -> None:
    steps = [step("curie", evidence="She was born in Warsaw."), step("river", evidence=None)]
    assert answer_recorded("the Warsaw", steps) == 1.0
    assert answer_recorded("War", steps) == 0.0
    assert [answer_recorded(answer, steps) for answer in (None, "", "The", "Yes.")] == [None] * 4
    assert [answer_recorded("Warsaw", steps) for steps in ([], steps[1:])] == [None] * 2, "nothing is recorded"
