"""The built-in world: reproducible, of exact size, with questions that only its passages answer."""

import gc
import os
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.corpus.passage import Passage
from exsearch.questions.question import Question, read_questions
from exsearch.world import SPLITS, Split, World, write_questions
from exsearch.world.catalogue import KINDS, RELATIONS
from exsearch.world.chains import Finder
from exsearch.world.names import SEED_CLASSES, long_words, seed_class, short_words
from exsearch.world.questions import MIX

_DIGEST = """
import hashlib
from exsearch.world import World
world = World(5, 600)
text = repr(list(world.passages())) + repr([list(world.questions(s)) for s in ("train", "dev", "test")])
print(hashlib.sha256(text.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def world() -> World:
    return World(7, 1200)


@pytest.fixture(scope="module")
def passages(world: World) -> dict[str, Passage]:
    return {passage.id: passage for passage in world.passages()}


@pytest.fixture(scope="module")
def questions(world: World) -> dict[Split, list[Question]]:
    return {split: list(world.questions(split)) for split in SPLITS}


@pytest.fixture(scope="module")
def everything(questions: dict[Split, list[Question]]) -> list[Question]:
    return [question for split in SPLITS for question in questions[split]]


def _words(text: str) -> str:
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def _holds(text: str, name: str) -> bool:
    return _words(name) in _words(text)


def _names(seed: int, size: int = 200) -> set[str]:
    """Return every title and every non-numeric answer of a world."""
    world = World(seed, size)
    names = {passage.title for passage in world.passages()}
    for split in SPLITS:
        for question in world.questions(split):
            for sub in question.sub_questions:
                names.update(answer for answer in sub.answers if not answer[0].isdigit())
    return names


def test_a_seed_gives_the_same_world_in_every_process() -> None:
    digests = set()
    for hash_seed in ("0", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", _DIGEST]
        digests.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("size", [200, 201, 599, 600, 1001, 1700])
def test_a_world_has_exactly_the_passages_asked_for(size: int) -> None:
    passages = list(World(3, size).passages())
    assert len(passages) == len({passage.id for passage in passages}) == size


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99), st.integers(0, 99))
def test_worlds_of_two_seeds_share_no_name(one: int, other: int) -> None:
    shared = _names(one) & _names(other)
    assert not shared if one != other else shared


@pytest.mark.parametrize("seed", [0, 41, 99])
def test_every_invented_word_belongs_to_the_class_of_its_seed(seed: int) -> None:
    for words in [make(seed, country) for make in (short_words, long_words) for country in (False, True)]:
        assert len(set(words)) == len(words) > 100
        assert {seed_class(word) for word in words} == {seed % SEED_CLASSES}


def test_countries_have_words_of_their_own() -> None:
    others = {*short_words(4), *long_words(4)}
    assert not others & {*short_words(4, True), *long_words(4, True)}


def test_entities_of_all_blocks_have_titles_of_their_own() -> None:
    world = World(11, 8_000)
    entities = [entity for number in range(20) for entity in world._block(number)[0].entities]
    assert len({entity.title for entity in entities}) == len(entities)
    assert len({entity.mention for entity in entities}) == len(entities)
    assert len({entity.described for entity in entities}) == len(entities)


def test_names_do_not_run_out_or_repeat_in_a_world_of_a_million_passages() -> None:
    world = World(12, 1_000_000)
    for kind, book in world._books.items():
        last = book.numbers - 1
        assert book.suffices
        dealt = [book.deal(number)[:2] for number in (*range(2000), *range(last - 2000, last))]
        assert len(set(dealt)) == len(dealt), kind


def test_the_schema_is_rich_enough() -> None:
    assert len(KINDS) >= 8
    assert len(RELATIONS) >= 15
    for relation in RELATIONS.values():
        assert len({*relation.plain, *relation.rich}) >= 4, relation.name
        assert len(set(relation.asks)) >= 3, relation.name
        assert relation.literal or relation.phrases, relation.name
        assert all("{s}" in text for text in (*relation.plain, *relation.asks, *relation.phrases))
        assert all("{o}" in text for text in (*relation.plain, *relation.rich))


def test_passages_are_short_texts_about_their_title(passages: dict[str, Passage]) -> None:
    lengths = [len(passage.text.split()) for passage in passages.values()]
    assert 30 <= sum(lengths) / len(lengths) <= 50
    assert max(lengths) <= 60
    for passage in passages.values():
        name = passage.title.partition(" (")[0]
        assert any(word in passage.text for word in name.split())
        assert "{" not in passage.text
        assert passage.text.endswith(".")
        assert 2 <= len(re.findall(r"[a-z]\. |\d\. |\.$", passage.text)) <= 7


def test_names_are_shared_by_several_entities(passages: dict[str, Passage]) -> None:
    titles = {passage.title for passage in passages.values()}
    namesakes = Counter(title.partition(" (")[0] for title in titles)
    assert sum(count for count in namesakes.values() if count > 1) > len(titles) / 20


def test_every_sub_question_is_answered_by_its_gold_passage(
    everything: list[Question], passages: dict[str, Passage]
) -> None:
    for question in everything:
        assert question.gold_passages
        assert {sub.passage for sub in question.sub_questions} == set(question.gold_passages)
        for sub in question.sub_questions:
            assert sub.passage is not None
            passage = passages[sub.passage]
            whole = f"{passage.title} {passage.text}"
            assert any(_holds(whole, answer) for answer in sub.answers), (sub, passage)


def test_evidence_is_one_short_sentence_with_the_answer(everything: list[Question]) -> None:
    for question in everything:
        for sub in question.sub_questions:
            assert sub.evidence is not None
            assert len(sub.evidence.split()) <= (20 if question.type != "intersection" else 30), sub
            assert sub.evidence.endswith(".")
            assert _holds(sub.evidence, sub.answers[0]), sub


def test_the_last_sub_question_leads_to_the_answer(everything: list[Question]) -> None:
    for question in everything:
        if "comparison" in str(question.type):
            assert any(_holds(str(sub.evidence), question.answers[0]) for sub in question.sub_questions)
        else:
            assert question.answers[0] == question.sub_questions[-1].answers[0]
        assert question.hops == len(question.sub_questions)


def test_the_compared_value_decides_a_comparison(everything: list[Question]) -> None:
    most = {"later", "longer", "higher", "recently", "younger"}
    compared = 0
    for question in (question for question in everything if question.type == "comparison"):
        first, second = question.sub_questions
        values = [int(sub.answers[0].split()[0]) for sub in (first, second)]
        wins = max(values) if most & set(re.findall(r"\w+", question.text)) else min(values)
        winner = (first, second)[values.index(wins)]
        assert _holds(str(winner.evidence), question.answers[0]), question
        compared += 1
    assert compared > 50


def test_a_question_names_neither_what_lies_between_nor_its_answer(everything: list[Question]) -> None:
    for question in everything:
        if question.type in ("bridge", "intersection"):
            hidden = [answer for sub in question.sub_questions[:-1] for answer in sub.answers]
            assert not [name for name in hidden if _holds(question.text, name)], question
        if question.type != "comparison":
            assert not [answer for answer in question.answers if _holds(question.text, answer)], question


def test_a_chain_asks_next_about_what_it_found(everything: list[Question]) -> None:
    for question in (question for question in everything if question.type == "bridge"):
        for found, following in zip(question.sub_questions, question.sub_questions[1:], strict=False):
            assert _holds(following.text, found.answers[0]), question


def test_exactly_one_entity_satisfies_an_intersection(world: World) -> None:

    blocks = [world._block(number)[0] for number in range(3)]
    everything = [entity for block in blocks for entity in block.entities]
    found = 0
    for block in blocks:
        for plan in Finder(block, "train", Random(0)).intersections():
            facts = (plan.first, plan.second)
            fitting = [
                entity
                for entity in everything
                if all(entity.facts.get(fact.relation.name) is fact.tail for fact in facts)
            ]
            assert fitting == [plan.first.head]
            assert plan.find_second.target is plan.second.tail
            found += 1
    assert found > 50


def test_question_texts_occur_once(everything: list[Question]) -> None:
    assert len({question.text for question in everything}) == len(everything)
    assert len({question.id for question in everything}) == len(everything)


def test_splits_share_no_passage_and_no_fact(questions: dict[Split, list[Question]]) -> None:
    used = {split: {sub.passage for question in questions[split] for sub in question.sub_questions} for split in SPLITS}
    stated = {
        split: {sub.evidence for question in questions[split] for sub in question.sub_questions} for split in SPLITS
    }
    for sets in (used, stated):
        assert not sets["train"] & sets["dev"]
        assert not sets["train"] & sets["test"]
        assert not sets["dev"] & sets["test"]


@pytest.mark.parametrize("split", SPLITS)
def test_no_answer_is_worth_guessing(questions: dict[Split, list[Question]], split: Split) -> None:
    answers = Counter(question.answers[0] for question in questions[split])
    assert answers.most_common(1)[0][1] < 0.05 * len(questions[split])


@pytest.mark.parametrize("split", SPLITS)
def test_types_and_hops_are_mixed_from_the_start(questions: dict[Split, list[Question]], split: Split) -> None:
    first = questions[split][:200]
    types = Counter(question.type for question in first)
    hops = Counter(question.hops for question in first)
    assert set(types) == {"single", "bridge", "intersection", "comparison", "bridge-comparison"}
    assert set(hops) == {1, 2, 3, 4}
    assert 0.05 < (types["comparison"] + types["bridge-comparison"]) / 200 < 0.22
    assert types["bridge"] > 80
    assert sum(MIX.values()) == pytest.approx(1)


def test_comparisons_favour_neither_the_first_nor_the_second_named(everything: list[Question]) -> None:
    comparisons = [question for question in everything if question.type == "comparison"]
    first = sum(_holds(q.sub_questions[0].evidence or "", q.answers[0]) for q in comparisons)
    assert 0.35 < first / len(comparisons) < 0.65


def test_hops_and_limit_select_questions_without_renaming_them() -> None:
    world = World(7, 300)
    every = {question.id: question for question in world.questions("train")}
    chosen = list(world.questions("train", limit=20, hops=[2, 3]))
    assert len(chosen) == 20
    assert {question.hops for question in chosen} == {2, 3}
    assert all(every[question.id] == question for question in chosen)
    assert next(iter(world.questions("dev"))).id == "w7-dev-000000"


def test_memory_does_not_grow_with_the_passages_made() -> None:
    passages = World(2, 50_000).passages()
    next(passages)  # The names are made now; they are the part that a world keeps.
    tracemalloc.start()
    held = []
    for _ in range(4):
        for _ in islice(passages, 600):
            pass
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held[-1] < 1.1 * held[0]
    assert peak < 32 * 2**20


@pytest.mark.slow
def test_memory_stays_bounded_over_fifty_thousand_passages() -> None:
    script = """
import resource
from exsearch.world import World
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
passages = World(2, 50_000).passages()
early = [peak() for _ in zip(range(2000), passages)][-1]
assert sum(1 for _ in passages) == 48_000
assert peak() < 1.25 * early, (early, peak())
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("size", [0, 199, -5, 10**9])
def test_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="passages"):
        World(1, size)


def test_wrong_arguments_are_refused(world: World) -> None:
    with pytest.raises(UsageError, match="seed"):
        World(-1, 200)
    with pytest.raises(UsageError, match="split"):
        world.questions("validation")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="hops"):
        world.questions("dev", hops=[5])
    with pytest.raises(UsageError, match="limit"):
        world.questions("dev", limit=-1)


def test_question_files_are_written_for_the_splits_asked_for(tmp_path: Path) -> None:
    world = World(7, 300)
    written = write_questions(world, tmp_path, {"train": 30, "dev": None})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev.jsonl", "train.jsonl"]
    assert written["train"] == 30
    assert read_questions(tmp_path / "train.jsonl") == list(world.questions("train", limit=30))
    dev = read_questions(tmp_path / "dev.jsonl")
    assert len(dev) == written["dev"] <= world.most_questions("dev")
