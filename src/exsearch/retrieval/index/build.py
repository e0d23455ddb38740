"""Building an index folder of any kind, and extending it when its corpus has grown.

`exsearch.retrieval.index.folder` says what a folder holds, `exsearch.retrieval.index.kinds` what a kind offers.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from exsearch.core.atomic import atomic_path, behind_link, remove, replace_atomically
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.locks import sole_writer
from exsearch.core.trouble import machine_trouble
from exsearch.corpus.store import Corpus, refuse_to_replace
from exsearch.retrieval.index.folder import (
    ENCODER,
    FORMAT,
    INFO,
    PLAN,
    SHARED,
    EncoderInfo,
    IndexInfo,
    cuts,
    index_fingerprint,
    lacks_nothing,
    read_index_info,
)
from exsearch.retrieval.index.kinds import DAMAGE, Kind
from exsearch.retrieval.index.registry import check_parameters, is_composite, kind_class
from exsearch.retrieval.index.segments import Target
from exsearch.retrieval.index.update import discard_unlisted, update_segments


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
            replace_atomically(partial, folder)
        (folder / PLAN).unlink()  # last: without it, a finished folder would be taken for another build's and made anew
    return out


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
        if not lacks_nothing(folder, there, corpus):
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
        implementation.build_members(corpus, folder, settings, partial(build_index, ray=ray))
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
