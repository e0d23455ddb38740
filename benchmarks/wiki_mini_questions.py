"""The questions of wiki_mini.py: read from the raw files, split, and made into gold trajectories."""

import random
from itertools import zip_longest
from pathlib import Path

import msgspec

from exsearch.agent.experiment import Experiment
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.questions.importer import import_questions
from exsearch.questions.normalise import normalise
from exsearch.questions.question import Question, read_questions
from exsearch.retrieval.index.build import build_index
from exsearch.warmup.plan import GoldPassages
from exsearch.warmup.write import gold_trajectories
from exsearch.world import World

SETS = {"hotpotqa": ".json", "2wikimultihopqa": ".json", "musique": ".jsonl"}
WARM_UP, CHOICE = 48, 60
"""Training questions for the warm-up, and to choose the iteration by; the others are explored."""
WORLD_PASSAGES, WORLD_HOPS = 4000, (1, 2, 3)

BySet = dict[str, list[Question]]


def imported(raw: Path, corpus: Corpus, out: Path, limit: int | None) -> tuple[BySet, BySet]:
    """Return the dev and the training questions of each set, with their gold passages in the corpus.

    What a dev file asks is no training question.
    """
    dev, training = {}, {}
    for name, ending in SETS.items():
        asked, learned = (out / f"{name}_{split}.jsonl" for split in ("dev", "train"))
        import_questions([raw / f"{name}_dev{ending}"], asked, corpus=corpus, limit=limit)
        decompositions = raw / f"{name}_train_decomposition.jsonl"
        import_questions(
            [raw / f"{name}_train{ending}"],
            learned,
            corpus=corpus,
            against=[asked],
            drop_leaks=True,
            limit=limit,
            decompositions=decompositions if decompositions.exists() else None,
        )
        dev[name], training[name] = read_questions(asked), read_questions(learned)
    return dev, training


def split(training: BySet, seed: int) -> tuple[list[Question], list[Question], list[Question]]:
    """Return the training questions that choose, those of the warm-up, and those to explore.

    The iteration is chosen by questions of all sets in equal parts, as dev has them. The warm-up learns from
    decompositions into sentences, which ask and record one way. The others are explored, except for those that ask
    yes or no, whose answer is guessed whatever was read.
    """
    shuffled = [list(questions) for questions in training.values()]
    for of_set in shuffled:
        random.Random(seed).shuffle(of_set)
    mixed = _in_turns(shuffled)
    warm, chosen_by = (min(count, len(mixed) // 3) for count in (WARM_UP, CHOICE))
    choice = mixed[:chosen_by]
    stated = [question for question in mixed[chosen_by:] if _is_stated(question)][:warm]
    taken = {question.id for question in choice + stated}
    to_explore = [[q for q in of_set if q.id not in taken and not _is_yes_or_no(q)] for of_set in shuffled]
    return choice, stated, _in_turns(to_explore)


def world(config: Config, folder: Path, count: int) -> tuple[Config, list[Question]]:
    """Return the settings in a world of the run's seed, and questions of it; what it says of a fact is a statement."""
    made = World(seed=config.seed, passages=WORLD_PASSAGES)
    passages = folder / "corpus"
    corpus = Corpus.open(passages) if passages.exists() else write_corpus(passages, made.passages())
    data = msgspec.structs.replace(config.data, index=str(build_index(corpus, "bm25", folder / "index")))
    warmup = msgspec.structs.replace(config.warmup, facts="evidence")
    questions = list(made.questions("train", count, hops=WORLD_HOPS))
    return msgspec.structs.replace(config, data=data, warmup=warmup), questions


def gold(config: Config, questions: list[Question]) -> list[Trajectory]:
    """Return the gold trajectories of questions over the index of the settings."""
    experiment = Experiment(config)
    retriever, passages = experiment.retriever, GoldPassages.of(experiment)
    return gold_trajectories(questions, retriever, experiment.chat, config.agent, passages)


def _is_stated(question: Question) -> bool:
    """Return whether a question has sub-questions with their answers in sentences."""
    return bool(question.sub_questions) and all(sub.statement for sub in question.sub_questions)


def _is_yes_or_no(question: Question) -> bool:
    """Return whether a question is answered with yes or no."""
    return any(normalise(answer) in ("yes", "no") for answer in question.answers)


def _in_turns(sets: list[list[Question]]) -> list[Question]:
    """Return the questions of all sets, one of each as long as it has any: a large set must not drown the others."""
    return [question for row in zip_longest(*sets) for question in row if question is not None]
