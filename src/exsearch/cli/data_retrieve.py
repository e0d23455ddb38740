"""`exsearch data retrieve`: retrieve documents for every question of a file."""

from pathlib import Path

import click

from exsearch.cli.options import (
    config_option,
    experiment_on,
    index_option,
    json_option,
    layout_option,
    set_option,
    settings,
)


@click.command()
@click.argument("questions", type=click.Path(path_type=Path))
@index_option
@click.option(
    "-k", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Number of documents per question."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@layout_option("JSON lines of questions with hits, or SearchLM's JSON list with `retrieval`.")
@config_option
@set_option
@json_option
def retrieve(
    questions: Path,
    index: str,
    k: int,
    out: Path,
    layout: str,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Search for the text of each question in the file QUESTIONS, in any format that `exsearch data import` reads, and
    write the documents to OUT.

    Run the same command again to resume. With `--set data.record=FILE` the searches are also recorded, so that
    replay:FILE answers them without the index.
    """
    import json

    from exsearch.agent.loading import resumable_retriever
    from exsearch.compat.searchlm.formats import paired_of
    from exsearch.core.atomic import require_distinct_paths
    from exsearch.core.jsonl import write_json_list, write_jsonl
    from exsearch.questions.readers.formats import read_any_questions
    from exsearch.questions.with_hits import pair

    config = settings(recipe, overrides)
    require_distinct_paths(out, [questions, Path(config.data.record) if config.data.record else None])
    records = read_any_questions(questions, unanswered=layout == "ours", emptied=layout == "ours")
    with resumable_retriever(experiment_on(index, config), out) as retriever:
        fingerprint = retriever.fingerprint
        paired = pair(records, retriever, k)
        count = write_jsonl(out, paired) if layout == "ours" else write_json_list(out, map(paired_of, paired))
    if as_json:
        click.echo(json.dumps({"questions": count, "k": k, "index": fingerprint, "out": str(out)}))
    else:
        click.echo(f"{out}: {count} questions, each with up to {k} documents of index {fingerprint}")
