"""Index folders: build one of any kind, extend it when its corpus has grown, open it as a retriever.

`exsearch.retrieval.index_folder` says what a folder holds, `exsearch.retrieval.kinds` what a kind offers.
"""

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from exsearch.corpus.store import Corpus, refuse_to_replace
from exsearch.errors import UsageError
from exsearch.files import atomic_path, behind_link, put_in_place, read_json, remove, write_json
from exsearch.locks import sole_writer
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.index_folder import (
    ENCODER,
    FORMAT,
    INFO,
    PLAN,
    SHARED,
    EncoderInfo,
    IndexInfo,
    OpenedIndex,
    cuts,
    index_fingerprint,
    read_index_info,
    segments_of,
)
from exsearch.retrieval.index_segments import Target, discard_unlisted, update_segments
from exsearch.retrieval.kinds import DAMAGE, Kind, check_parameters, is_composite, kind_class
from exsearch.shape import convert
from exsearch.trouble import machine_trouble, opening


def build_index(corpus: Corpus, kind: str, out: Path, *, ray: str | None = None, **parameters: Any) -> Path:
    """Build an index of `corpus` as the folder `out`, or bring it up to date, and return `out`.

    An index at `out` of the same kind, version and parameters whose corpus has only grown is extended, and what is
    damaged in it is built again; any other is replaced when the new one is complete. After a kill the same call
    continues. With `ray`, the address of a cluster, its machines build the segments. Raises UsageError for an unknown
    kind or parameter, for an `out` that holds something else, and where another process is writing it.
    """
    refuse_to_replace(out, INFO)
    settings = check_parameters(kind, parameters)
    version = kind_class(kind).version
    plan = {"format": FORMAT, "kind": kind, "version": version, "parameters": msgspec.to_builtins(settings)}
    folder = behind_link(out)
    with sole_writer(folder):
        there = _index_at(folder)
        if there is not None and there.passages > len(corpus):
            corpus = Corpus.open(corpus.folder)  # another process has added to it, and indexed that, since
        if there is not None and _extends(folder, there, plan, corpus, settings):
            _begin(folder, {**plan, "corpus": corpus.fingerprint}, there)
            _fill(folder, there, corpus, settings, plan, ray)
        else:
            partial = folder.with_name(f".{folder.name}.partial")
            _begin(partial, {**plan, "corpus": corpus.fingerprint}, None)
            try:
                _fill(partial, None, corpus, settings, plan, ray)
            except UsageError:
                remove(partial)  # it would fail again; what else has stopped it may be gone the next time
                raise
            put_in_place(partial, folder)
        (folder / PLAN).unlink()  # last: without it, a finished folder would be taken for another build's and made anew
    return out


def open_index(folder: Path, corpus_folder: Path | None = None, again: str | None = None) -> Retriever:
    """Open an index with the corpus it was built from, at `corpus_folder` if that has moved.

    `again` is the command that builds it again, where it is a part of another. Raises UsageError for a folder that is
    no index or a damaged one, for an index of another version, and for a corpus with other content.
    """
    info = read_index_info(folder)
    implementation = kind_class(info.kind)
    where = corpus_folder or folder / info.corpus
    if not where.is_dir():
        raise UsageError(f"{folder}: its corpus is not at {where}; say where it is (--corpus DIR)")
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
            f"{folder}: {len(corpus) - info.passages} passages were added to {where} since; index them too ({again})"
        )
    with opening(folder, "index", f"build it again ({again})", *DAMAGE):
        try:
            if not _lacks_nothing(folder, info, corpus):
                raise UsageError(
                    f"{folder}: lacks passages that were deleted from its corpus, but are not deleted in {where}; "
                    f"name the right one (--corpus DIR) or build the index again ({again})"
                )
            settings = convert(info.parameters, implementation.Parameters)
            segments = segments_of(folder, info)
            return implementation(OpenedIndex(folder, corpus, info, settings, again, folder / SHARED, segments))
        except FileNotFoundError:
            if read_index_info(folder) == info:
                raise
    return open_index(folder, corpus_folder, again)  # its segments were merged after their names had been read


def _index_at(folder: Path) -> IndexInfo | None:
    """Return what index.json says; None if there is none that can be read: a new index takes its place."""
    try:
        return read_index_info(folder)
    except UsageError:
        return None


def _extends(folder: Path, there: IndexInfo, plan: dict[str, Any], corpus: Corpus, settings: Any) -> bool:
    """Whether the index in `folder` is what `plan` would make of the first rows of `corpus`."""
    if (there.kind, there.version) != (plan["kind"], plan["version"]):
        return False
    # a parameter that it does not name came later, and had the value that is now its default
    if not there.parameters.keys() <= plan["parameters"].keys() or not _are(there, settings):
        return False
    if corpus.prefix(there.passages) != there.corpus_prefix:
        return False
    implementation = kind_class(there.kind)
    if is_composite(implementation):
        return True
    simple = cast(Kind, implementation)
    try:
        simple.check_shared(folder / SHARED, settings)
        encoder = _shared_encoder(folder)
        if not _lacks_nothing(folder, there, corpus):
            return False
    except (OSError, MemoryError, UsageError, *DAMAGE) as error:
        if trouble := machine_trouble(error, folder):
            raise trouble from None
        return False
    # an encoder of the same name may have been trained again
    return encoder == there.encoder and (encoder is None or simple.encoder_hash(settings) == encoder.hash)


def _are(there: IndexInfo, settings: Any) -> bool:
    """Whether the parameters that index.json names are these; what is no parameter of the kind is damage."""
    try:
        return bool(check_parameters(there.kind, there.parameters) == settings)
    except UsageError:
        return False


def _lacks_nothing(folder: Path, info: IndexInfo, corpus: Corpus) -> bool:
    """Whether all rows that were dropped when segments were merged are deleted in `corpus`."""
    return all(np.isin(segment.dropped(), corpus.deleted).all() for segment in segments_of(folder, info))


def _begin(folder: Path, plan: dict[str, Any], there: IndexInfo | None) -> None:
    """Write down what the folder is to become; what a killed build of another plan has left in it is removed."""
    path = folder / PLAN
    with suppress(UsageError):  # one that cannot be read is another
        if path.is_file() and read_json(path, dict[str, Any]) == plan:
            return
    if there is None:
        remove(folder)
        folder.mkdir(parents=True)
    else:
        discard_unlisted(folder, [range(*bounds) for bounds in there.segments])
    write_json(path, plan)


def _fill(
    folder: Path, there: IndexInfo | None, corpus: Corpus, settings: Any, plan: dict[str, Any], ray: str | None
) -> None:
    """Build what `folder` lacks, merge what is small, and at last write index.json, which makes it count."""
    implementation = kind_class(plan["kind"])
    grown = there is not None and there.passages < len(corpus)
    encoder: EncoderInfo | None = None
    segments: list[range] = []
    deciding: list[range] = []
    more: list[str | None] = []
    if is_composite(implementation):
        implementation.build_members(corpus, folder, settings, ray)
    else:
        simple = cast(Kind, implementation)
        encoder = _prepare(folder / SHARED, simple, corpus, settings)
        listed = [] if there is None else [range(*bounds) for bounds in there.segments]
        target = Target(folder, plan["kind"], settings, plan["parameters"], corpus, encoder is not None)
        segments = update_segments(target, listed, ray)
        indivisible = simple.indivisible(settings)
        deciding = cuts(len(corpus), simple.segment_rows) if indivisible is None else segments
        # vectors depend on the passages encoded with them, and what is trained for them on those that were there first
        more = [indivisible, there.fingerprint if there is not None and grown and encoder is not None else None]
    prefix = corpus.prefix(len(corpus))
    assert prefix is not None
    info = IndexInfo(
        format=FORMAT,
        kind=plan["kind"],
        parameters=plan["parameters"],
        corpus=_path_from(folder, corpus.folder),
        corpus_prefix=prefix,
        encoder=encoder,
        passages=len(corpus),
        segments=[(rows.start, rows.stop) for rows in segments],
        fingerprint=(
            there.fingerprint
            if there is not None and not grown
            else index_fingerprint(plan, prefix, deciding, encoder, *filter(None, more))
        ),
        version=plan["version"],
    )
    if info != there:
        write_json(folder / INFO, info)
    discard_unlisted(folder, segments)


def _prepare(shared: Path, implementation: Kind, corpus: Corpus, settings: Any) -> EncoderInfo | None:
    """Make what the segments share, unless it is there; return the encoder, if the kind has one."""
    if not shared.is_dir():
        with atomic_path(shared) as temporary:
            temporary.mkdir()
            encoder = implementation.prepare(corpus, temporary, settings)
            write_json(temporary / ENCODER, encoder)
    return _shared_encoder(shared.parent)


def _shared_encoder(folder: Path) -> EncoderInfo | None:
    return read_json(folder / SHARED / ENCODER, EncoderInfo | None)  # type: ignore[arg-type]


def _path_from(index: Path, corpus: Path) -> str:
    try:
        return Path(os.path.relpath(corpus.resolve(), index.resolve())).as_posix()
    except ValueError:  # on another drive
        return str(corpus.resolve())


def _command(corpus: Path, info: IndexInfo, folder: Path) -> str:
    """Return the command that builds an index as `info` says."""
    members = {name: value for name, value in info.parameters.items() if name == "members"}  # they have defaults, too
    usual = [*_defaults(info.kind, {}), *(default for default in _defaults(info.kind, members) if "." in default[0])]
    changed = [setting for setting in _flat(info.parameters) if setting not in usual]
    words = ["exsearch", "index", str(corpus), "--retriever", info.kind, "--out", str(folder)]
    words += [word for name, value in changed for word in ("--set", f"{name}={_written(value)}")]
    return shlex.join(words)


def _defaults(kind: str, parameters: dict[str, Any]) -> list[tuple[str, Any]]:
    return _flat(msgspec.to_builtins(check_parameters(kind, parameters)))


def _flat(parameters: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in parameters.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return found


def _written(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
