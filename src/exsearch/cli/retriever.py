"""`exsearch retriever`: train the encoder of `late` indexes."""

from pathlib import Path

import click


@click.group()
def retriever() -> None:
    """Train the encoder of late-interaction indexes."""


@retriever.command()
@click.option("--questions", type=click.Path(path_type=Path), required=True, help="Questions with gold passages.")
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Index whose hits are hard negatives.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Encoder folder to write.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Corpus folder of the index, if it has moved.")
@click.option("--trajectories", type=click.Path(path_type=Path), help="Journal of `explore` to learn from as well.")
@click.option("--encoder", help="Encoder to start from: a folder or hub id. Default: the embedded MiniLM.")
@click.option(
    "--scope",
    type=click.Choice(["full", "projection"]),
    default="projection",
    show_default=True,
    help="Tune the transformer, or only a linear map on top of it.",
)
@click.option(
    "--dimensions", type=click.IntRange(min=1), help="Dimensions of the projection. Default: those of the encoder."
)
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True, help="Passes over the triples.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Triples per step.")
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Default: 2e-5, or 1e-3 for a projection."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds and inputs give equal weights.")
@click.option("--max-triples", type=click.IntRange(min=1), help="Maximum number of triples, drawn at random.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(
    questions: Path,
    index: Path,
    out: Path,
    corpus: Path | None,
    trajectories: Path | None,
    encoder: str | None,
    scope: str,
    dimensions: int | None,
    epochs: int,
    batch_size: int,
    learning_rate: float | None,
    seed: int,
    max_triples: int | None,
    as_json: bool,
) -> None:
    """Fine-tune an encoder on queries, the passages that answer them, and hits that do not.

    Queries are the questions' sub-questions, or the questions themselves where there are none. Use the result with
    `exsearch index CORPUS --retriever late --set encoder=OUT`. The figures of each step go to OUT.metrics.jsonl.
    """
    import json

    from exsearch.agent.trajectory import Trajectory
    from exsearch.config import ModelConfig
    from exsearch.core.errors import UsageError
    from exsearch.core.jsonl import read_jsonl
    from exsearch.core.locks import sole_writer
    from exsearch.corpus.store import Corpus
    from exsearch.encoder_training.train import RetrieverConfig, train_retriever
    from exsearch.encoder_training.triples import add_negatives, pairs_of_questions, pairs_of_trajectories, sample_pairs
    from exsearch.logs.metrics_log import MetricsLog
    from exsearch.questions.question import read_questions
    from exsearch.retrieval.encoders.base import EMBEDDED
    from exsearch.retrieval.index.folder import read_index_info
    from exsearch.retrieval.index.open import open_index

    records = read_questions(questions, emptied=True)
    pairs = pairs_of_questions(records)
    if not pairs:
        raise UsageError(
            f"{questions}: no question names a gold passage (gold_passages, or sub_questions with passage)"
        )
    if trajectories is not None:
        pairs += pairs_of_trajectories(read_jsonl(trajectories, Trajectory), records)
    opened = open_index(index, corpus)
    passages = Corpus.open(corpus or index / read_index_info(index).corpus)
    data = add_negatives(sample_pairs(pairs, max_triples, seed), opened, passages)
    metrics = MetricsLog(out.with_name(f"{out.name}.metrics.jsonl"))
    with sole_writer(out):
        train_retriever(
            encoder or EMBEDDED,
            data,
            out,
            RetrieverConfig(scope, dimensions, epochs, batch_size, learning_rate),  # type: ignore[arg-type]
            ModelConfig(),
            seed,
            log=lambda step, figures: metrics.append("retriever", step, **figures),
            rewind=lambda step: metrics.rewind("retriever", step),
        )
    if as_json:
        click.echo(json.dumps({"encoder": str(out), "triples": len(data.triples), "metrics": str(metrics.path)}))
    else:
        click.echo(f"{out}: encoder after {len(data.triples)} triples; figures in {metrics.path}")
