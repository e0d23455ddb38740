"""Loads a transformers checkpoint completely or refuses it: each missing weight would be a random number."""

import errno
import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exsearch.core.checksums import CHECKSUMS, check_files, damage_in
from exsearch.core.errors import ExSearchError, UsageError

_NAMED = 3
"""Maximum number of weights of a kind to name in a message."""


def load_whole(kind: Any, source: str | Path, *, states_only: bool = False, **options: Any) -> Any:
    """Return what `kind.from_pretrained(source, **options)` loads, in evaluation mode.

    Raises UsageError with the names of weights that are missing, unknown to the model, or of another size. With
    `states_only`, only the model's last hidden states are used: a pooler may be missing, and the checkpoint may have a
    head.
    """
    with quiet(), explained(source):
        model, report = kind.from_pretrained(source, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    missing = set(report["missing_keys"])  # without a head tied to the embeddings; with persistent buffers
    unknown = set(report["unexpected_keys"])
    if states_only:
        missing = {name for name in missing if "pooler" not in name.split(".")}
        inner = {name for name, _ in model.named_children()}
        unknown = {name for name in unknown if name.removeprefix(f"{model.base_model_prefix}.").split(".")[0] in inner}
    resized = {f"{name} is {list(has)}, not {list(needs)}" for name, has, needs in report["mismatched_keys"]}
    refuse_misfits(
        f"{source}: its weights do not fit the {type(model).__name__} that its config.json describes",
        {"missing": missing, "unknown to the model": unknown, "of another size": resized},
        "download or save the checkpoint again, or correct its config.json",
    )
    return model


def require_whole(kind: Any, source: str | Path, *, states_only: bool = False, **options: Any) -> None:
    """Raise UsageError where `load_whole` would. Reads only the headers of the weights."""
    load_whole(kind, source, states_only=states_only, device_map="meta", **options)


def require_undamaged(folder: Path, whole: bool = False) -> None:
    """Raise UsageError if a file of a checkpoint is not the one that was saved; others' checkpoints have no record.

    Sizes are compared, and the content of small files or, with `whole`, of all.
    """
    try:
        if whole:
            faults = list(damage_in(folder))
        else:
            check_files(folder)
            faults = []
    except FileNotFoundError as error:
        faults = [f"{Path(str(error.filename)).name}: missing"]
    except ValueError as error:
        faults = [str(error)]
    if faults:
        raise UsageError(
            f"{folder}: damaged ({'; '.join(faults)}); restore it or save it again, or remove its {CHECKSUMS} if you "
            "changed it yourself"
        )


def refuse_misfits(what: str, misfits: dict[str, set[str]], advice: str) -> None:
    """Raise UsageError that `what` is wrong, with some weights of each kind; return if there are none."""
    parts = [f"{kind}: {_some(names)}" for kind, names in misfits.items() if names]
    if parts:
        raise UsageError(f"{what} ({'; '.join(parts)}); {advice}")


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + more


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing bars, warnings and reports; errors are still raised."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _not_joined(error: BaseException) -> set[str]:
    """Return the weights, with reasons, that transformers could not combine, such as those of experts.

    It logs which ones they are, and its error only refers to the log; they are found where the error was raised.
    """
    from transformers.utils.loading_report import LoadStateDictInfo

    for frame, _ in traceback.walk_tb(error.__traceback__):
        report = frame.f_locals.get("loading_info")
        if isinstance(report, LoadStateDictInfo):
            reasons = {name: why.rsplit("\nError", 1)[0].splitlines() for name, why in report.conversion_errors.items()}
            return {f"{name} ({lines[-1]})" if lines else name for name, lines in reasons.items()}
    return set()


@contextmanager
def explained(source: str | Path) -> Iterator[None]:
    """Turn errors about an unreadable checkpoint into one line.

    Libraries check little of what files say, so that a damaged one may raise anything.
    """
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"{source} cannot be loaded: a file is missing ({error}); save it again") from None
    except SafetensorError:
        raise UsageError(f"{source} cannot be loaded: its weights are damaged; save it again") from None
    except Exception as error:
        if isinstance(error, ExSearchError) or _is_of_the_machine(error):
            raise
        refuse_misfits(
            f"{source}: its weights do not fit the model that its config.json describes",
            {"missing or of another size": _not_joined(error)},
            "download or save the checkpoint again, or correct its config.json",
        )
        raise UsageError(f"{source} cannot be loaded by transformers: {reason_of(error)}") from error


def _is_of_the_machine(error: Exception) -> bool:
    """Return whether memory or a disk is to blame, not the checkpoint."""
    import torch

    if isinstance(error, OSError):
        return error.errno is not None
    if isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or os.strerror(errno.ENOMEM) in str(error)
    return isinstance(error, MemoryError)


def reason_of(error: Exception) -> str:
    """Return the first line of a library's error, with its type if it was not raised to be read."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if isinstance(error, (OSError, ValueError, RuntimeError)) else f"{type(error).__name__}: {line}"
