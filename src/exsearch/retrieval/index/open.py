"""Opens an index folder of any kind as a retriever."""

import shlex
from pathlib import Path
from typing import Any, cast

import msgspec

from exsearch.core.checksums import check_files
from exsearch.core.errors import UsageError
from exsearch.core.shape import convert
from exsearch.core.trouble import opening
from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.index.folder import (
    SHARED,
    IndexInfo,
    OpenedIndex,
    lacks_nothing,
    read_index_info,
    require_same_stemmer,
    segments_of,
)
from exsearch.retrieval.index.kinds import DAMAGE, IndexKind, stemmer_of
from exsearch.retrieval.index.registry import check_parameters, is_composite, kind_class


def open_index(folder: Path, corpus_folder: Path | None = None, again: str | None = None) -> Retriever:
    """Open an index as `open_with_corpus` does, and return it without its corpus."""
    return open_with_corpus(folder, corpus_folder, again)[0]


def open_with_corpus(
    folder: Path, corpus_folder: Path | None = None, again: str | None = None
) -> tuple[Retriever, Corpus]:
    """Open an index with the corpus it was built from, at `corpus_folder` if that has moved; return both.

    `again` is the command that builds it again, if the index is part of another. Raises UsageError for a folder that is
    not an index or is damaged, for an index of another version, and for a corpus with other content.
    """
    info = read_index_info(folder)
    implementation = kind_class(info.kind)
    where = corpus_folder or folder / info.corpus
    if not where.is_dir():
        raise UsageError(f"{folder}: its corpus is not at {where}; name its folder (--corpus DIR)")
    corpus = Corpus.open(where)
    again = again or _command(corpus_folder or where.resolve(), info, folder)
    if info.version != implementation.version:
        raise UsageError(
            f"{folder}: {info.kind} index of version {info.version}, this ExSearch reads version "
            f"{implementation.version}; build it again ({again})"
        )
    if corpus.prefix(info.passages) != info.corpus_prefix:
        raise UsageError(
            f"{folder}: built from another corpus than {where}; name the right one (--corpus DIR) "
            f"or build the index again ({again})"
        )
    if len(corpus) > info.passages:
        raise UsageError(
            f"{folder}: {len(corpus) - info.passages} passages were added to {where} since; index these too ({again})"
        )
    with opening(folder, "index", f"build it again ({again})", *DAMAGE):
        try:
            if not lacks_nothing(folder, info, corpus):
                raise UsageError(
                    f"{folder}: lacks passages that were deleted from its corpus, but are not deleted in {where}; "
                    f"name the right one (--corpus DIR) or build the index again ({again})"
                )
            settings = convert(info.parameters, implementation.Parameters)
            segments = segments_of(folder, info)
            check_files(folder / SHARED, *(segment.folder for segment in segments))
            opened = OpenedIndex(folder, corpus, info, settings, again, folder / SHARED, segments)
            if is_composite(implementation):
                return implementation(opened, open_index), corpus
            simple = cast(IndexKind, implementation)
            require_same_stemmer(stemmer_of(simple), info.stemmer, folder, again)
            return simple(opened), corpus
        except FileNotFoundError:
            if read_index_info(folder) == info:
                raise
    return open_with_corpus(folder, corpus_folder, again)  # its segments were merged since their names were read


def _command(corpus: Path, info: IndexInfo, folder: Path) -> str:
    """Return the command that builds an index as `info` describes it."""
    members = {name: value for name, value in info.parameters.items() if name == "members"}  # defaults are not repeated
    usual = [*_defaults(info.kind, {}), *(default for default in _defaults(info.kind, members) if "." in default[0])]
    changed = [setting for setting in _flat(info.parameters) if setting not in usual]
    words = ["exsearch", "index", str(corpus), "--retriever", info.kind, "--out", str(folder)]
    words += [word for name, value in changed for word in ("--set", f"{name}={_written(value)}")]
    return shlex.join(words)


def _defaults(kind: str, parameters: dict[str, Any]) -> list[tuple[str, Any]]:
    return _flat(msgspec.to_builtins(check_parameters(kind, parameters)))


def _flat(parameters: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in parameters.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return pairs


def _written(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
