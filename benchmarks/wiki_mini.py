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
from pathlib import Path

from wiki_mini_beside import others
from wiki_mini_figures import about, figures, show
from wiki_mini_questions import gold, imported, split, world

from exsearch.config import load_config
from exsearch.core.jsonl import write_json, write_jsonl
from exsearch.corpus.importing import import_corpus
from exsearch.corpus.store import Corpus
from exsearch.em.loop import EMRun
from exsearch.evaluation.scores import read_scores
from exsearch.retrieval.index.build import build_index

RESULTS = Path(__file__).parent / "results"
RECIPE = Path(__file__).parent.parent / "src" / "exsearch" / "recipes" / "wiki-mini.toml"
OF_WORLD = 240


def main() -> None:
    """Run the experiment."""
    options = parsed()
    out = options.out or Path(f"runs/wiki-mini-{options.seed}")

    # 1. Passages, and an index of them.
    if not (out / "corpus").exists():
        import_corpus(options.wiki_mini / "psgs_w100.tsv.gz", out / "corpus")
    corpus = Corpus.open(out / "corpus")
    index = build_index(corpus, "bm25", out / "index")

    # 2. Questions: some training questions choose the iteration, some warm up, the others are explored.
    dev, training = imported(options.wiki_mini, corpus, out / "questions", options.limit)
    choice, stated, to_explore = split(training, options.seed)
    test = [question for asked in dev.values() for question in asked]
    write_jsonl(out / "choice.jsonl", choice)
    write_jsonl(out / "train.jsonl", stated + to_explore)
    write_jsonl(out / "test.jsonl", test)

    # 3. Warm-up, then expectation-maximisation. Reading is taught by the built-in world, where nothing can be known
    #    without it, and how real questions are taken apart by a few of them; exploring brings the one to the other.
    files = {"train": out / "train.jsonl", "dev": out / "choice.jsonl", "test": out / "test.jsonl"}
    files |= {"index": index, "warmup": out / "warmup.jsonl"}
    named = [f"data.{key}={path}" for key, path in files.items()]
    config = load_config(RECIPE, [*named, f"seed={options.seed}", *options.set])
    in_world, of_world = world(config, out / "world", options.limit or OF_WORLD)
    write_jsonl(files["warmup"], gold(config, stated) + gold(in_world, of_world))
    run = EMRun(config, out / "run", print)
    summary = run.run()

    # 4. Other weightings of the rollouts of the first iteration, and other ways to answer; the table grows with each.
    explored = [q for number in range(1, len(summary.iterations) + 1) for q in run.questions_of(number)]
    met = list({question.id: question for question in stated + explored}.values())
    found = {model: read_scores(run.folder.test_eval(model)) for model in summary.models}
    made = about(run, summary, found["warmup"].protocol, one_shot=len(met) + len(of_world))
    written = out / "result.json" if options.limit else RESULTS / f"wiki_mini-{options.seed}.json"
    result = figures(made, found, dev)
    write_json(written, result)
    for name, scores in others(run, [(config, met), (in_world, of_world)], test, out):
        found[name] = scores
        result = figures(made, found, dev)
        write_json(written, result)
    show(result)


def parsed() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wiki-mini", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the recipe")
    return parser.parse_args()


if __name__ == "__main__":
    main()
