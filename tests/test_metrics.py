"""Answer metrics: as the SQuAD script defines them, the best over all aliases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.data.normalise import normalise
from exsearch.evaluation.metrics import accuracy, exact_match, f1, passage_recall

texts = st.text(alphabet=st.sampled_from("ab the. A-é1"), max_size=15)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The Beatles", "beatles"),
        ("a  man,\tan\nisland", "man island"),
        ("U.S.A.", "usa"),
        ("rock'n'roll", "rocknroll"),
        ("Theatre of an Anthem", "theatre of anthem"),
        ("the-a-an", "theaan"),
        ("The", ""),
        ("", ""),
        ("1,000 km", "1000 km"),
        ("Čapek’s “R.U.R.”", "čapek’s “rur”"),
        ("World War II", "world war ii"),
        ("  ---  ", ""),
    ],
)
def test_normalisation_follows_squad(text: str, normalised: str) -> None:
    assert normalise(text) == normalised


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert "  " not in once and once == once.strip()
    assert normalise(once) == once
    assert not {"a", "an", "the"} & set(once.split(" "))


@pytest.mark.parametrize(
    ("answer", "aliases", "matches"),
    [
        ("the Beatles.", ["Beatles"], 1.0),
        ("World War I", ["World War II"], 0.0),
        ("World War II", ["World War I"], 0.0),
        ("JFK", ["John F. Kennedy", "JFK", "Kennedy"], 1.0),
        ("Kennedy, John", ["John Kennedy"], 0.0),
        ("", ["Paris"], 0.0),
        ("1987", ["1986"], 0.0),
    ],
)
def test_exact_match_is_equality_with_an_alias_after_normalisation(
    answer: str, aliases: list[str], matches: float
) -> None:
    assert exact_match(answer, aliases) == matches


@pytest.mark.parametrize(
    ("answer", "aliases", "score"),
    [
        ("World War I", ["World War II"], 2 / 3),
        ("the cat", ["a cat"], 1.0),
        ("cat cat", ["cat"], 2 / 3),
        ("dog", ["cat"], 0.0),
        ("big red dog", ["dog", "red dog"], 0.8),
        ("", ["cat"], 0.0),
    ],
)
def test_f1_is_the_overlap_of_words_with_the_best_alias(answer: str, aliases: list[str], score: float) -> None:
    assert f1(answer, aliases) == pytest.approx(score)


@given(texts, texts)
def test_f1_is_symmetric_and_agrees_with_exact_match(one: str, other: str) -> None:
    score = f1(one, [other])
    assert score == pytest.approx(f1(other, [one]))
    assert 0 <= score <= 1
    if exact_match(one, [other]) and normalise(one):
        assert score == 1


@given(texts, st.lists(texts, min_size=1, max_size=4), texts)
def test_another_alias_never_lowers_a_score(answer: str, aliases: list[str], alias: str) -> None:
    for metric in (exact_match, f1, accuracy):
        assert metric(answer, [*aliases, alias]) == max(metric(answer, aliases), metric(answer, [alias]))


@pytest.mark.parametrize(
    ("answer", "alias", "contained"),
    [
        ("It was Marie Curie, in 1903.", "Marie Curie", 1.0),
        ("It was Marie Curies", "Marie Curie", 0.0),
        ("World War II", "World War I", 0.0),
        ("19035", "1903", 0.0),
        ("anything", "the", 0.0),
    ],
)
def test_accuracy_asks_for_an_alias_as_whole_words(answer: str, alias: str, contained: float) -> None:
    assert accuracy(answer, [alias]) == contained


def test_passage_recall_is_the_share_of_gold_passages_read() -> None:
    assert passage_recall(["a", "b"], {"b", "c"}) == 0.5
    assert passage_recall(["a"], set()) == 0.0
    assert passage_recall([], {"a"}) is None
