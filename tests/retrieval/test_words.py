"""Words: short ones, initials, letters of every script, and the same word however it is written."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exsearch.core import words as module
from exsearch.core.words import words
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.bm25.terms import Stems
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index


def terms(text: str) -> list[int]:
    stems = Stems()
    return [stems[word] for word in words(text)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("U.S.", "US"),
        ("U. S.", "us"),
        ("the U.S.A.", "USA"),
        ("J. R. R. Tolkien", "J.R.R. Tolkien"),
        ("J.R.R Tolkien", "JRR Tolkien"),
        ("A. A. Milne", "AA Milne"),
        ("А. С. Пушкин", "АС Пушкин"),
        ("AT&T", "at&t"),
        ("Texas A&M", "texas a&m"),
        ("Spielberg's films", "Spielberg’s film"),
        ("Spielberg's", "Spielberg"),
        ("O'Brien", "O’Brien"),
        ("Dvořák", "dvorak"),
        ("İstanbul", "ISTANBUL"),
        ("ıstanbul", "istanbul"),
        ("Straße", "STRASSE"),
        ("Łódź", "lodz"),
        ("Søren Ærø", "soren aero"),
        ("Ёлка", "елка"),
        ("Νίκος", "ΝΙΚΟΣ"),
        ("ﬁlm", "film"),
        ("ＩＢＭ", "ibm"),
        ("CO₂", "co2"),
        ("Hawaiʻi", "Hawaii"),
        ("co\u00adoperate", "cooperate"),
        ("שָׁלוֹם", "שלום"),
        ("كِتَاب", "كتاب"),
        ("می\u200cخواهم", "میخواهم"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("Lego™", "lego"),
        ("1914–1918", "1914-1918"),
        ("snake_case", "snake case"),
    ],
)
def test_one_word_written_in_two_ways_is_one_word(one: str, other: str) -> None:
    assert terms(one) == terms(other) != []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C++", "C"),
        ("C#", "C"),
        ("C++", "C#"),
        ("AT&T", "T"),
        ("1.5", "15"),
        ("हिन्दी", "हनद"),
        ("Vitamin A", "vitamin"),
    ],
)
def test_what_differs_stays_different(one: str, other: str) -> None:
    assert terms(one) != terms(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Vitamin C", ["vitamin", "c"]),
        ("Orbiter 8", ["orbiter", "8"]),
        ("the X of y", ["x", "y"]),
        ("vitamin C. A dog", ["vitamin", "c", "dog"]),
        ("rock 'n' roll, don't", ["rock", "'n", "roll", "don"]),
        ("हिन्दी भाषा भारत में बोली जाती है।", ["हिन्दी", "भाषा", "भारत", "में", "बोली", "जाती", "है"]),
        ("বাংলা", ["বাংলা"]),
        ("తెలుగు தமிழ்", ["తెలుగు", "தமிழ்"]),
        ("北京是中国的首都。", ["北京", "京是", "是中", "中国", "国的", "的首", "首都"]),
        ("1949年", ["1949", "年"]),
        ("iPhone電池", ["iphone", "電池"]),
        ("「東京」タワー", ["東京", "タワ", "ワー"]),
        ("서울은 대한민국", ["서울", "울은", "대한", "한민", "민국"]),
        ("กรุงเทพ", ["กรุ", "รุง", "งเ", "เท", "ทพ"]),
        ("___ ?! ™ 🎉", []),
        ("", []),
    ],
)
def test_words_of_every_length_and_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert words(unicodedata.normalize("NFD", text)) == expected


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Vitamin A is found in liver", True),
        ("Who needs vitamin A?", True),
        ("who needs vitamin a?", True),
        ("vitamin a", True),
        ("Serie A", True),
        ("Omega-A", True),
        ("Wellington A. Playte", True),
        ("A. Smith", True),
        ("A thriller of 1975", False),
        ("liver. A vitamin", False),
        ("a vitamin", False),
        ("such a vitamin", False),
        ('"A vitamin"', False),
    ],
)
def test_the_letter_a_is_a_word_and_the_article_is_none(text: str, kept: bool) -> None:
    assert (terms("A")[0] in terms(text)) == kept


def test_stop_words_are_left_out_unless_nothing_else_is_left() -> None:
    assert words("It is the sea") == ["sea"]
    assert words("It") == ["it"]
    assert words("to be or not to be") == ["to", "be", "or", "not", "to", "be"]


@given(st.text())
def test_canonically_equal_texts_have_the_same_words(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))


@example("_A.A")
@given(st.text(st.characters(codec="ascii")))
def test_the_short_way_for_ascii_gives_what_the_long_one_gives(text: str) -> None:
    assert module._ascii_words(text.lower()) == module._words_of_any_script(text.lower())


PASSAGES = [
    *(Passage(f"orbiter-{n}", f"Orbiter {n}", f"Orbiter {n} was a crewed flight of 1968.") for n in (7, 8, 9)),
    *(Passage(f"vitamin-{n}", f"Vitamin {n}", f"Vitamin {n} is found in yeast.") for n in "ABC"),
    *(Passage(f"osric-{n}", f"Osric {n}", f"Osric {n} was king of Lomb.") for n in ("IV", "V", "VI")),
    Passage("who", "The Who", "The Who were a band."),
    Passage("it", "It", "A novel about a clown."),
    Passage("x", "X", "X is a web site, once called Twitter."),
    Passage("c", "C (programming language)", "C is a language for systems."),
    Passage("c++", "C++", "C++ is a language for systems."),
    Passage("c-sharp", "C#", "C# is a language for systems."),
    Passage("at&t", "AT&T", "AT&T is a telephone company."),
    Passage("us", "United States", "The U.S. is a country in North America."),
    Passage("hindi", "हिन्दी विकिपीडिया", "हिन्दी भाषा भारत में बोली जाती है।"),
    Passage("beijing", "北京", "北京是中国的首都。"),
    Passage("tokyo", "東京", "東京は日本の首都です。"),
    Passage("dvorak", "Antonín Dvořák", "Antonín Dvořák composed in Nelahozeves."),
    Passage("nemec", unicodedata.normalize("NFD", "Tomáš Němec"), unicodedata.normalize("NFD", "He wrote Žluťák.")),
    Passage("istanbul", "İstanbul", "A city on two continents."),
]


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    folder: Path = tmp_path_factory.mktemp("words")
    return open_index(build_index(write_corpus(folder / "corpus", PASSAGES), "bm25", folder / "index"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Vitamin A", "vitamin-A"),
        ("What is vitamin C found in?", "vitamin-C"),
        ("Orbiter 8", "orbiter-8"),
        ("Who was king after Osric V?", "osric-V"),
        ("It", "it"),
        ("the who", "who"),
        ("X", "x"),
        ("C language", "c"),
        ("a C++ compiler", "c++"),
        ("c#", "c-sharp"),
        ("AT&T", "at&t"),
        ("U.S.", "us"),
        ("US", "us"),
        ("हिन्दी", "hindi"),
        ("भाषा", "hindi"),
        ("中国的首都", "beijing"),
        ("日本の首都", "tokyo"),
        ("Antonin Dvorak", "dvorak"),
        ("Tomáš Němec", "nemec"),
        ("Zlutak", "nemec"),
        ("istanbul", "istanbul"),
    ],
)
def test_the_passage_with_exactly_that_word_comes_first(retriever: Retriever, query: str, expected: str) -> None:
    [hits] = retriever.search([query], 2)
    assert hits[0].passage.id == expected
    assert len(hits) == 1 or hits[1].score < hits[0].score
