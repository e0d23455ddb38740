"""Index folders: build one of any kind, open one and get its retriever.

An index folder holds `index.json` and the files of its kind. A kind of retriever is one module and one line
in KINDS. Its class has `Parameters`, a msgspec struct whose defaults are the kind's defaults; `build`, which
fills a folder; and a constructor that opens one.
"""

import importlib
import os
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from exsearch.corpus.store import Corpus, refuse_to_replace
from exsearch.errors import UsageError, nearest
from exsearch.files import atomic_path, fingerprint, read_json, write_json
from exsearch.retrieval.base import Retriever

FORMAT = 1
KINDS = {
    "bm25": "exsearch.retrieval.bm25:Bm25",
    "late": "exsearch.retrieval.late:Late",
}


class EncoderInfo(msgspec.Struct, frozen=True):
    """The model that made an index's vectors."""

    id: str
    """Hub id, folder, or name of the embedded model."""
    hash: str
    """Of its weights and vocabulary."""
    precision: str
    """In which the passages were encoded: `bfloat16` or `float32`."""
    dimensions: int


class IndexInfo(msgspec.Struct, frozen=True):
    """What index.json says."""

    format: int
    kind: str
    parameters: dict[str, Any]
    corpus: str
    """Folder of the corpus, relative to the index folder where a relative path exists."""
    corpus_fingerprint: str
    encoder: EncoderInfo | None
    passages: int
    fingerprint: str


class Kind(Protocol):
    """What a kind's class must offer."""

    Parameters: type[msgspec.Struct]

    def __call__(self, folder: Path, corpus: Corpus, info: IndexInfo) -> Retriever:
        """Open the index; raises OSError, ValueError or KeyError if its files are damaged."""
        ...

    def build(self, corpus: Corpus, folder: Path, parameters: Any) -> EncoderInfo | None:
        """Write the kind's files into `folder`, which exists; return the encoder, if one was used."""
        ...


def build_index(corpus: Corpus, kind: str, out: Path, **parameters: Any) -> Path:
    """Build an index of `corpus` as the folder `out`, atomically, and return `out`.

    Replaces an existing index. Raises UsageError for an unknown kind or parameter, and for an `out` that
    holds something else.
    """
    refuse_to_replace(out, "index.json")
    implementation = _implementation(kind)
    known = list(implementation.Parameters.__struct_fields__)
    for name in parameters:
        if name not in known:
            raise UsageError(f"index kind {kind!r} has no parameter {name!r}{nearest(name, known)}")
    try:
        settings = msgspec.convert(parameters, implementation.Parameters)
    except msgspec.ValidationError as error:
        raise UsageError(f"index kind {kind!r}: {error}") from None
    with atomic_path(out) as folder:
        folder.mkdir()
        encoder = implementation.build(corpus, folder, settings)
        resolved = msgspec.to_builtins(settings)
        info = IndexInfo(
            format=FORMAT,
            kind=kind,
            parameters=resolved,
            corpus=_path_from(out, corpus.folder),
            corpus_fingerprint=corpus.fingerprint,
            encoder=encoder,
            passages=len(corpus),
            fingerprint=_fingerprint(kind, resolved, corpus.fingerprint, encoder),
        )
        write_json(folder / "index.json", info)
    return out


def open_index(folder: Path, corpus_folder: Path | None = None) -> Retriever:
    """Open an index with the corpus it was built from, at `corpus_folder` if that has moved.

    Raises UsageError for a folder that is no index or a damaged one, and for a corpus with other content.
    """
    info = read_index_info(folder)
    implementation = _implementation(info.kind)
    where = corpus_folder or folder / info.corpus
    if not where.is_dir():
        raise UsageError(f"{folder}: its corpus is not at {where}; say where it is (--corpus DIR)")
    corpus = Corpus.open(where)
    if corpus.fingerprint != info.corpus_fingerprint:
        raise UsageError(
            f"{folder}: built from the corpus with fingerprint {info.corpus_fingerprint}, but {where} has "
            f"{corpus.fingerprint}; name the right corpus (--corpus DIR) or build the index again "
            f"(exsearch index {where} --retriever {info.kind} --out {folder})"
        )
    try:
        return implementation(folder, corpus, info)
    except (OSError, ValueError, KeyError, TypeError, EOFError, msgspec.ValidationError) as error:
        raise UsageError(f"{folder}: damaged index, build it again ({error})") from None


def read_index_info(folder: Path) -> IndexInfo:
    """Read index.json alone; raise UsageError if `folder` is not an index this version reads."""
    if not (folder / "index.json").is_file():
        raise UsageError(f"{folder}: not an index folder (no index.json); `exsearch index` makes one")
    info = read_json(folder / "index.json", IndexInfo)
    if info.format != FORMAT:
        raise UsageError(f"{folder}: index format {info.format}, this version reads format {FORMAT}")
    return info


def _implementation(kind: str) -> Kind:
    if kind not in KINDS:
        suggestion = nearest(kind, list(KINDS))
        raise UsageError(f"unknown retriever kind {kind!r} (known: {', '.join(KINDS)}){suggestion}")
    module, name = KINDS[kind].split(":")
    return cast(Kind, getattr(importlib.import_module(module), name))


def _path_from(index: Path, corpus: Path) -> str:
    try:
        return Path(os.path.relpath(corpus.resolve(), index.resolve())).as_posix()
    except ValueError:  # on another drive
        return str(corpus.resolve())


def _fingerprint(kind: str, parameters: dict[str, Any], corpus: str, encoder: EncoderInfo | None) -> str:
    # the encoder counts by its content, not by the name or path it was loaded from
    model = None if encoder is None else [encoder.hash, encoder.precision]
    named = {name: value for name, value in parameters.items() if name != "encoder"}
    return fingerprint([FORMAT, kind, named, corpus, model])
