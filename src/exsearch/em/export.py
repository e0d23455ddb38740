"""Exports a run's model to a folder that other tools load, with a model card: how it was made and how good it is."""

import shutil
from pathlib import Path

from exsearch import __version__
from exsearch.config import Config, load_config
from exsearch.core.atomic import atomic_path, is_taken, write_text
from exsearch.core.errors import ExSearchError, UsageError, nearest
from exsearch.core.jsonl import read_json
from exsearch.evaluation.scores import Figure, has_scores, read_scores
from exsearch.runs.layout import RunLayout
from exsearch.runs.records import RunSummary
from exsearch.training.saving import FLOAT32, JOB

LICENCES = {"builtin:smollm2-135m": "apache-2.0"}
"""Licences of models that ExSearch builds itself. A model keeps the licence of the one that it was trained from."""


def export(run: Path, out: Path, name: str | None, licence: str | None) -> str:
    """Copy the model `name` of a run, by default the best on validation, to the new folder `out`; return its name.

    `licence` is that of the model that the run started from. Raises UsageError if the licence is unknown, if the run
    has no such model, or if `out` exists.
    """
    folder = RunLayout(run)
    summary = read_json(folder.summary, RunSummary)
    name = name or summary.best
    checkpoint = folder.checkpoint(name)
    if not checkpoint.is_dir():
        trained = [model for model in summary.models if folder.checkpoint(model).is_dir()]
        raise UsageError(f"{run}: has no model {name!r}{nearest(name, trained)} (it has {', '.join(trained)})")
    if is_taken(out):
        raise UsageError(f"{out}: already exists; choose another folder")
    config = load_config(folder.config)
    licence = licence or LICENCES.get(config.model.path)
    if licence is None:
        raise UsageError(f"name the licence of {config.model.path} with --licence, such as apache-2.0")
    with atomic_path(out) as temporary:
        shutil.copytree(checkpoint, temporary, ignore=shutil.ignore_patterns(JOB, FLOAT32))
        write_text(temporary / "README.md", model_card(folder, config, summary, name, licence))
    return name


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the model hub and return its address. Raises ExSearchError if that fails."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        address = api.create_repo(repository, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository)
    except (HfHubHTTPError, OSError, ValueError) as error:
        message = str(error).strip().splitlines()[0]
        raise ExSearchError(f"{repository}: not uploaded ({message}); the model is in {folder}") from error
    return str(address)


def model_card(folder: RunLayout, config: Config, summary: RunSummary, name: str, licence: str) -> str:
    """Return the model card in Markdown, with the front matter that the model hub reads."""
    builtin = config.model.path.startswith("builtin:")
    base = "HuggingFaceTB/SmolLM2-135M-Instruct" if builtin else config.model.path
    head = ["---", "library_name: transformers", "pipeline_tag: text-generation", f"license: {licence}"]
    head += [f"base_model: {base}"] if builtin or not Path(base).exists() else []
    head += ["tags:", "- exsearch", "- agentic-search", "- expectation-maximisation", "---"]
    parts = [
        "\n".join(head),
        f"# {summary.title}: {name}",
        "A search agent: it asks a retriever what it does not know, records the evidence, and answers. Trained by "
        f"ExSearch {__version__} by expectation-maximisation over its own search trajectories "
        "([paper](https://arxiv.org/abs/2505.20128)).",
        "## Use",
        "```shell\nexsearch ask QUESTION --model THIS_FOLDER --index INDEX\n```",
        "Other tools load it like any model of its kind; the first turn has to be worded as in training, which "
        "`exsearch explore` and `exsearch eval` do.",
        "## Training",
        _training(config, summary, name),
        "## Evaluation",
        _evaluation(folder, summary),
        "## Settings",
        f"```toml\n{folder.config.read_text(encoding='utf-8').strip()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _training(config: Config, summary: RunSummary, name: str) -> str:
    lines = [f"* Began with: `{config.model.path}`"]
    if config.data.warmup:
        lines.append(f"* Warm-up: the trajectories of `{config.data.warmup}`")
    elif config.warmup.questions:
        lines.append(f"* Warm-up: {config.warmup.questions} questions with gold trajectories")
    for iteration in summary.iterations:
        lines.append(
            f"* {iteration.name}: {iteration.questions} questions, {config.explore.samples} trajectories each; learned "
            f"from {iteration.examples}, weighted by `{config.weigh.weighting}`"
            + (f"; {iteration.guard}" if iteration.guard else "")
        )
        if iteration.name == name:
            break
    lines += [f"* Training questions: `{config.data.train}`", f"* Searched in: `{config.data.index}`"]
    return "\n".join(lines)


def _evaluation(folder: RunLayout, summary: RunSummary) -> str:
    evaluated = [model for model in summary.models if has_scores(folder.test_eval(model))]
    scores = {model: read_scores(folder.test_eval(model)) for model in evaluated}
    lines = ["| model | exact match, % | F1, % |", "|---|---|---|"]
    lines += [f"| {model} | {_percent(s.figures['em'])} | {_percent(s.figures['f1'])} |" for model, s in scores.items()]
    first = next(iter(scores.values()))
    return (
        "\n".join(lines)
        + f"\n\nn = {first.figures['em'].n} held-out questions, greedy, 95% bootstrap intervals; protocol "
        f"`{first.protocol}`. Compare scores only under the same protocol."
    )


def _percent(figure: Figure) -> str:
    return f"{figure.mean:.1%} [{figure.low:.1%}, {figure.high:.1%}]".replace("%", "")
