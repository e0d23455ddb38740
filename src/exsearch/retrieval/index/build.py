"""Builds an index folder of any kind, and extends it when its corpus has grown.

For the content of a folder see `exsearch.retrieval.index.folder`, for the kinds `exsearch.retrieval.index.kinds`.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from exsearch.core.atomic import atomic_path, behind_link, remove, replace_atomically
from exsearch.core.checksums import check_files, write_checked, write_checksums
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.locks import sole_writer
from exsearch.core.scratch import remove_abandoned
from exsearch.core.trouble import machine_trouble
from exsearch.corpus.store import Corpus, refuse_to_replace
from exsearch.retrieval.index.folder import (
    ENCODER,
    FIRST_STEMS,
    FORMAT,
    INFO,
    PLAN,
    SHARED,
    EncoderInfo,
    IndexInfo,
    StemmerInfo,
    cuts,
    index_fingerprint,
    lacks_nothing,
    read_index_info,
    stem_differently,
)
from exsearch.retrieval.index.kinds import DAMAGE, IndexKind, stemmer_of
from exsearch.retrieval.index.registry import check_parameters, is_composite, kind_class
from exsearch.retrieval.index.segments import BuildTarget
from exsearch.retrieval.index.update import discard_unlisted, update_segments


def build_index(corpus: Corpus, kind: str, out: Path, *, ray: str | None = None, **parameters: Any) -> Path:
    """Build an index of `corpus` as the folder `out`, or update it, and return `out`.

    If `out` has an index of the same kind, version and parameters, and its corpus has only grown, it is extended, and
    damaged parts are built again. Any other index is replaced once the new one is complete. After an interruption, the
    same call resumes. With `ray`, the address of a cluster, its machines build the segments. Raises UsageError for an
    unknown kind or parameter, if `out` is something else, and if another process is writing it.
    """
    refuse_to_replace(out, INFO)
    settings = check_parameters(kind, parameters)
    version = kind_class(kind).version
    plan = {"format": FORMAT, "kind": kind, "version": version, "parameters": msgspec.to_builtins(settings)}
    folder = behind_link(out)
    with sole_writer(folder):
        remove_abandoned(folder)
        there = _index_at(folder)
        if there is not None and there.passages > len(corpus):
            corpus = Corpus.open(corpus.folder)  # another process may have extended and indexed it meanwhile
        if there is not None and _extends(folder, there, plan, corpus, settings):
            _begin(folder, {**plan, "corpus": corpus.fingerprint}, there)
            _fill(folder, there, corpus, settings, plan, ray)
        else:
            partial = folder.with_name(f".{folder.name}.partial")
            remove_abandoned(partial)
            _begin(partial, {**plan, "corpus": corpus.fingerprint}, None)
            try:
                _fill(partial, None, corpus, settings, plan, ray)
            except UsageError:
                remove(partial)  # this would fail again; other causes of a stop may be gone next time
                raise
            replace_atomically(partial, folder)
        # last: without the plan, a finished folder would count as another build's, and be built again
        (folder / PLAN).unlink()
    return out


def _index_at(folder: Path) -> IndexInfo | None:
    """Return the content of index.json; None if it cannot be read, in which case a new index replaces it."""
    try:
        return read_index_info(folder)
    except UsageError:
        return None


def _extends(folder: Path, there: IndexInfo, plan: dict[str, Any], corpus: Corpus, settings: Any) -> bool:
    """Return whether the index in `folder` is what `plan` would build from the first rows of `corpus`."""
    if (there.kind, there.version) != (plan["kind"], plan["version"]):
        return False
    # a parameter that it does not name is newer; its default is the former behaviour
    if not there.parameters.keys() <= plan["parameters"].keys() or not _are(there, settings):
        return False
    if corpus.prefix(there.passages) != there.corpus_prefix:
        return False
    implementation = kind_class(there.kind)
    if is_composite(implementation):
        return True
    simple = cast(IndexKind, implementation)
    if stem_differently(stemmer_of(simple), there.stemmer):
        return False
    try:
        check_files(folder / SHARED)
        simple.check_shared(folder / SHARED, settings)
        encoder = _shared_encoder(folder)
        if not lacks_nothing(folder, there, corpus):
            return False
    except (OSError, MemoryError, UsageError, *DAMAGE) as error:
        if trouble := machine_trouble(error, folder):
            raise trouble from None
        return False
    # an encoder of the same name may have new weights
    return encoder == there.encoder and (encoder is None or simple.encoder_hash(settings) == encoder.hash)


def _are(there: IndexInfo, settings: Any) -> bool:
    """Return whether index.json names these parameters; a name that the kind does not have counts as damage."""
    try:
        return bool(check_parameters(there.kind, there.parameters) == settings)
    except UsageError:
        return False


def _begin(folder: Path, plan: dict[str, Any], there: IndexInfo | None) -> None:
    """Write the plan of the build; remove what an interrupted build with another plan has left."""
    path = folder / PLAN
    with suppress(UsageError):  # one that cannot be read counts as another
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
    """Build what `folder` lacks, merge what is small, and write index.json last, which makes it an index."""
    implementation = kind_class(plan["kind"])
    has_grown = there is not None and there.passages < len(corpus)
    encoder: EncoderInfo | None = None
    stemmer: StemmerInfo | None = None
    segments: list[range] = []
    deciding: list[range] = []
    more: list[str | None] = []
    if is_composite(implementation):
        implementation.build_members(corpus, folder, settings, partial(build_index, ray=ray))
    else:
        simple = cast(IndexKind, implementation)
        encoder = _prepare(folder / SHARED, simple, corpus, settings)
        stemmer = stemmer_of(simple) if there is None else there.stemmer
        listed = [] if there is None else [range(*bounds) for bounds in there.segments]
        target = BuildTarget(folder, plan["kind"], settings, plan["parameters"], corpus, encoder is not None)
        segments = update_segments(target, listed, ray)
        indivisible = simple.indivisible(settings)
        deciding = cuts(len(corpus), simple.segment_rows) if indivisible is None else segments
        # vectors depend on the passages encoded with them, and their quantiser on the first passages
        more = [indivisible, there.fingerprint if there is not None and has_grown and encoder is not None else None]
        more += [stemmer.stems if stemmer is not None and stemmer.stems != FIRST_STEMS else None]
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
            if there is not None and not has_grown
            else index_fingerprint(plan, prefix, deciding, encoder, *filter(None, more))
        ),
        version=plan["version"],
        stemmer=stemmer,
    )
    if info != there:
        write_checked(folder / INFO, info)
    discard_unlisted(folder, segments)


def _prepare(shared: Path, implementation: IndexKind, corpus: Corpus, settings: Any) -> EncoderInfo | None:
    """Create what the segments share, unless it exists; return the encoder, if the kind has one."""
    if not shared.is_dir():
        with atomic_path(shared) as temporary:
            temporary.mkdir()
            encoder = implementation.prepare(corpus, temporary, settings)
            write_json(temporary / ENCODER, encoder)
            write_checksums(temporary)
    return _shared_encoder(shared.parent)


def _shared_encoder(folder: Path) -> EncoderInfo | None:
    return read_json(folder / SHARED / ENCODER, EncoderInfo | None)  # type: ignore[arg-type]


def _path_from(index: Path, corpus: Path) -> str:
    try:
        return Path(os.path.relpath(corpus.resolve(), index.resolve())).as_posix()
    except ValueError:  # the corpus is on another drive
        return str(corpus.resolve())
