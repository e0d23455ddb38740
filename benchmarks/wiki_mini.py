"""The method on real questions, from the raw files to a table: read from top to bottom, this is the whole experiment.

    python benchmarks/wiki_mini.py --wiki-mini DIR [--seed 1] [--out runs/wiki-mini-1]

A model of 135 million parameters learns to answer questions of HotpotQA, 2WikiMultihopQA and MuSiQue by searching in
20,478 passages. Training files are for training and for the choice of the iteration; the dev files are only scored.
Beside the agent stand the baselines under the same budgets, a one-shot model fine-tuned on the same questions, and
two other weightings of the same rollouts. A stopped run continues. `--limit N` takes N questions of each file: a
rehearsal in minutes, whose figures mean nothing and stay in its folder.

Prints the table and writes benchmarks/results/wiki_mini-SEED.json.
"""

import argparse
import importlib.metadata
import os
import random
import statistics
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import msgspec
from page import command_line

from exsearch.agent.chat import ChatFormat
from exsearch.agent.loading import load_agents, load_retriever
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config, GrammarName, load_config
from exsearch.corpus.importing import import_corpus
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.data.importing import import_questions
from exsearch.data.normalise import normalise
from exsearch.data.question import Question, read_questions
from exsearch.data.world import World
from exsearch.em.gold import GoldPassages
from exsearch.em.learn import weighted_examples
from exsearch.em.loop import EMRun
from exsearch.em.warmup import gold_trajectories
from exsearch.em.weigh import weigh
from exsearch.engine.builtin import resolve_model
from exsearch.engine.load import pick_device
from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.evaluation.evaluate import Evaluation, evaluate
from exsearch.evaluation.protocol import make_protocol
from exsearch.evaluation.scores import Scores, has_scores, read_scores
from exsearch.files import read_jsonl, write_json, write_jsonl
from exsearch.retrieval.index import build_index
from exsearch.training.example import Example, example_from
from exsearch.training.logged import train_logged

RESULTS = Path(__file__).parent / "results"
RECIPE = Path(__file__).parent.parent / "src" / "exsearch" / "recipes" / "wiki-mini.toml"
SETS = {"hotpotqa": ".json", "2wikimultihopqa": ".json", "musique": ".jsonl"}
WORLD, WARM_UP, CHOICE = 240, 48, 60
"""Questions of the built-in world and training questions for the warm-up, and training questions to choose the
iteration by; the others are explored."""
WORLD_PASSAGES, WORLD_HOPS = 4000, (1, 2, 3)
BASELINES: tuple[GrammarName, ...] = ("one-shot", "ircot", "self-ask")


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wiki-mini", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the recipe")
    options = parser.parse_args()
    out = options.out or Path(f"runs/wiki-mini-{options.seed}")

    # 1. Passages, and an index of them.
    if not (out / "corpus").exists():
        import_corpus(options.wiki_mini / "psgs_w100.tsv.gz", out / "corpus")
    corpus = Corpus.open(out / "corpus")
    index = build_index(corpus, "bm25", out / "index")

    # 2. Questions, with their gold passages in the corpus. What a dev file asks is no training question. The iteration
    #    is chosen by questions of all sets in equal parts, as dev has them. The warm-up learns from decompositions into
    #    sentences, which ask and record one way: its questions stand first. The others are explored, except for those
    #    that ask yes or no, whose answer is guessed whatever was read.
    dev, training = {}, {}
    for name, ending in SETS.items():
        asked, learned = (out / "questions" / f"{name}_{split}.jsonl" for split in ("dev", "train"))
        import_questions([options.wiki_mini / f"{name}_dev{ending}"], asked, corpus=corpus, limit=options.limit)
        decompositions = options.wiki_mini / f"{name}_train_decomposition.jsonl"
        import_questions(
            [options.wiki_mini / f"{name}_train{ending}"],
            learned,
            corpus=corpus,
            against=[asked],
            drop_leaks=True,
            limit=options.limit,
            decompositions=decompositions if decompositions.exists() else None,
        )
        dev[name], training[name] = read_questions(asked), read_questions(learned)
    for questions in training.values():
        random.Random(options.seed).shuffle(questions)
    mixed = in_turns(list(training.values()))
    warm, chosen_by = (min(count, len(mixed) // 3) for count in (WARM_UP, CHOICE))
    choice = mixed[:chosen_by]
    stated = [question for question in mixed[chosen_by:] if is_stated(question)][:warm]
    taken = {question.id for question in choice + stated}
    to_explore = [[q for q in of_set if q.id not in taken and not is_yes_or_no(q)] for of_set in training.values()]
    splits = {
        "choice": choice,
        "train": stated + in_turns(to_explore),
        "test": [question for asked in dev.values() for question in asked],
    }
    for name, questions in splits.items():
        write_jsonl(out / f"{name}.jsonl", questions)

    # 3. Warm-up, then expectation-maximisation. Reading is taught by the built-in world, where nothing can be known
    #    without it, and how real questions are taken apart by a few of them; exploring brings the one to the other.
    files = {"index": index, "warmup": out / "warmup.jsonl"}
    files |= {"train": out / "train.jsonl", "dev": out / "choice.jsonl", "test": out / "test.jsonl"}
    named = [f"data.{key}={path}" for key, path in files.items()]
    config = load_config(RECIPE, [*named, f"seed={options.seed}", *options.set])
    in_world, of_world = world(config, out / "world", WORLD if options.limit is None else options.limit)
    write_jsonl(files["warmup"], gold(config, stated) + gold(in_world, of_world))
    run = EMRun(config, out / "run", print)
    summary = run.run()
    found = {model: read_scores(run.folder.test_eval(model)) for model in summary.models}
    explored = [q for number in range(1, len(summary.iterations) + 1) for q in run.questions_of(number)]
    met = list({question.id: question for question in stated + explored}.values())
    about = {
        "command": command_line(),
        "versions": {name: importlib.metadata.version(name) for name in ("exsearch", "torch", "transformers")},
        "machine": f"{len(os.sched_getaffinity(0))} cores, {config.model.engine} on {pick_device(config.model)}",
        "seed": options.seed,
        "learned_from": {
            "warm-up": len(list(read_jsonl(run.folder.warmup_trajectories, Trajectory))),
            "explored an iteration": len(run.questions_of(1)),
            "samples a question": config.explore.samples,
            "one-shot": len(met) + len(of_world),
        },
        "trajectory": lengths(run),
        "chosen": summary.best,
        "protocol": found["warmup"].protocol,
        "seconds": summary.seconds,
        "iterations": msgspec.to_builtins(summary.iterations),
    }
    written = RESULTS / f"wiki_mini-{options.seed}.json" if options.limit is None else out / "result.json"
    write_json(written, table(about, found, dev))

    # 4. Other weightings of the rollouts of the first iteration, and other ways to answer; the table grows with each.
    for name, scores in others(run, [(config, met), (in_world, of_world)], splits["test"], out):
        found[name] = scores
        write_json(written, table(about, found, dev))
    show(table(about, found, dev))


def is_stated(question: Question) -> bool:
    """Return whether a question has sub-questions with their answers in sentences."""
    return bool(question.sub_questions) and all(sub.statement for sub in question.sub_questions)


def is_yes_or_no(question: Question) -> bool:
    """Return whether a question is answered with yes or no."""
    return any(normalise(answer) in ("yes", "no") for answer in question.answers)


def in_turns(sets: list[list[Question]]) -> list[Question]:
    """Return the questions of all sets, one of each as long as it has any: a large set must not drown the others."""
    return [question for row in zip_longest(*sets) for question in row if question is not None]


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
    index = config.data.index
    chat, passages = ChatFormat.load(resolve_model(config.model.path)), GoldPassages.of_index(index, config)
    return gold_trajectories(questions, load_retriever(config, index), chat, config.agent, passages)


def others(
    run: EMRun, met: list[tuple[Config, list[Question]]], test: list[Question], out: Path
) -> Iterator[tuple[str, Scores]]:
    """Yield the names and scores of what stands beside the agent, `met` being what it learned from, and where."""
    for weighting in ("rft", "uniform"):
        model = reweighted(run, weighting, out / "models" / weighting)
        yield f"iter-1, {weighting}", scored(run.config, model, test, out / "eval" / weighting)
    model = one_shot(run, met, out / "models" / "one-shot")
    way = with_grammar(run.config, "one-shot")
    yield "one-shot, fine-tuned", scored(way, model, test, out / "eval" / "one-shot-tuned")
    for grammar in BASELINES:
        yield grammar, scored(with_grammar(run.config, grammar), run.base, test, out / "eval" / grammar)


def table(about: dict[str, Any], found: dict[str, Scores], dev: dict[str, list[Question]]) -> dict[str, Any]:
    """Return what is written down: the figures of all systems, and how the agent differs from them."""
    models = {name: by_set(scores, dev) for name, scores in found.items()}
    by_question = {name: [round(row.f1, 4) for row in scores.questions] for name, scores in found.items()}
    compared = {metric: differences(found, about["chosen"], metric) for metric in ("f1", "recall")}
    return {**about, "models": models, "differences": compared, "f1_by_question": by_question}


def with_grammar(config: Config, grammar: GrammarName) -> Config:
    """Return the settings for another way to answer, with the same budgets."""
    return msgspec.structs.replace(config, agent=msgspec.structs.replace(config.agent, grammar=grammar))


def scored(config: Config, model: Path, questions: list[Question], folder: Path) -> Scores:
    """Return the scores of a model's greedy answers."""
    if has_scores(folder):
        return read_scores(folder)
    with closing(load_agents(config, model, config.data.index)) as agents:
        protocol = make_protocol(config.agent, agents.index_fingerprint, questions)
        [scores] = evaluate(agents, [Evaluation(folder, questions, protocol)], folder.name, folder.name)
    return scores


def reweighted(run: EMRun, weighting: str, out: Path) -> Path:
    """Return what the warm-up model becomes when it learns from the first iteration's rollouts by another weighting.

    The gate stays, so that all weightings learn from the same questions.
    """
    settings = msgspec.structs.replace(run.config.weigh, weighting=weighting)
    trajectories = list(read_jsonl(run.folder.trajectories("iter-1"), Trajectory))
    weights = weigh(trajectories, run.questions_of(1), settings)
    examples = weighted_examples(trajectories, weights, run.chat, run.config.learn)
    examples += run.to_mix_in()
    return learned(run, run.folder.checkpoint("warmup"), examples, run.config.learn, out)


def one_shot(run: EMRun, met: list[tuple[Config, list[Question]]], out: Path) -> Path:
    """Return the model that learns to answer the questions the agent learned from, from one search each."""
    found = [gold(with_grammar(config, "one-shot"), questions) for config, questions in met]
    examples = [example_from(trajectory, 1.0, None, run.chat) for trajectory in chain(*found)]
    return learned(run, run.base, examples, run.config.warmup, out)


def learned(run: EMRun, base: Path, examples: list[Example], settings: Any, out: Path) -> Path:
    """Fine-tune as the run does; return the checkpoint."""
    config = run.config
    train_logged(base, examples, out, settings, config.model, config.tracking, config.seed, out.name)
    return out


def by_set(scores: Scores, dev: dict[str, list[Question]]) -> dict[str, Any]:
    """Return the figures of each data set and of all of them together."""
    rows = {row.question_id: row for row in scores.questions}
    sets = {**dev, "all": [question for questions in dev.values() for question in questions]}
    return {
        name: {
            metric: msgspec.to_builtins(
                figure([float(value) for q in asked if (value := getattr(rows[q.id], metric)) is not None])
            )
            for metric in ("em", "f1", "acc", "recall", "searches", "tokens")
        }
        for name, asked in sets.items()
    }


def lengths(run: EMRun) -> dict[str, float]:
    """Return means over the first iteration's trajectories: tokens, those that the model said, searches, bytes."""
    file = run.folder.trajectories("iter-1")
    explored = list(read_jsonl(file, Trajectory))
    return {
        "tokens": statistics.mean(len(each.token_ids) for each in explored),
        "said": statistics.mean(sum(each.loss_mask) for each in explored),
        "searches": statistics.mean(len(each.steps) for each in explored),
        "bytes": file.stat().st_size / len(explored),
    }


def differences(found: dict[str, Scores], chosen: str, metric: str) -> dict[str, Any]:
    """Return the paired differences of the chosen model and of the last one from all others."""
    values = {name: [float(getattr(row, metric) or 0) for row in scores.questions] for name, scores in found.items()}
    last = [name for name in found if name.startswith("iter-") and "," not in name][-1]
    return {
        f"{mine} - {other}": msgspec.to_builtins(paired_difference(values[other], values[mine]))
        for mine in dict.fromkeys((chosen, last))
        for other in values
        if other != mine
    }


def show(result: dict[str, Any]) -> None:
    """Print the figures over all questions."""
    for name, sets in result["models"].items():
        cells = [f"{metric} {100 * sets['all'][metric]['mean']:5.1f}" for metric in ("em", "f1", "acc", "recall")]
        print(f"{name:>24}  {'  '.join(cells)}  searches {sets['all']['searches']['mean']:.1f}")
    for name, one in result["differences"]["f1"].items():
        print(f"{name:>44}  F1 {100 * one['mean']:+5.1f} [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]")


if __name__ == "__main__":
    main()
