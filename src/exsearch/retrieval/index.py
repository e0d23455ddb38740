"""Index folders: build one of any kind, extend it when its corpus has grown, open it as a retriever.

An index folder holds `index.json`, `shared/` with what all segments share (a quantiser, say), and one folder
`segments/<first>-<stop>/` for each range of the corpus's rows. A segment is written once and never changed. So a
build that was killed continues at its first missing segment, and a corpus that has grown is indexed by more
segments. A composite index holds others in subfolders. A kind of retriever is one module and one line in KINDS.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import msgspec

from exsearch.corpus.store import Corpus, refuse_to_replace
from exsearch.errors import ExSearchError, UsageError, nearest
from exsearch.files import atomic_path, fingerprint, put_in_place, read_json, remove, write_json
from exsearch.progress import progress
from exsearch.retrieval.base import Retriever
from exsearch.shape import ShapeError, convert

FORMAT = 2
_PLAN = "plan.json"
"""What a build that is not finished is to become."""
KINDS = {
    "bm25": "exsearch.retrieval.bm25:Bm25",
    "late": "exsearch.retrieval.late:Late",
    "dense": "exsearch.retrieval.dense:Dense",
    "plaid": "exsearch.retrieval.plaid:Plaid",
    "hybrid": "exsearch.retrieval.hybrid:Hybrid",
}


class EncoderInfo(msgspec.Struct, frozen=True):
    """The model that made an index's vectors."""

    id: str
    """Hub id, folder, or name of the embedded model."""
    hash: str
    """Of its weights and vocabulary."""
    precision: str
    """In which the passages were encoded, such as `bfloat16` or `openvino-float32`."""
    dimensions: int


class IndexInfo(msgspec.Struct, frozen=True):
    """What index.json says."""

    format: int
    kind: str
    parameters: dict[str, Any]
    corpus: str
    """Folder of the corpus, relative to the index folder where a relative path exists."""
    corpus_prefix: str
    """Identifies the content of the rows that are indexed."""
    encoder: EncoderInfo | None
    passages: int
    """Rows that are indexed; the corpus may have lost some of them since."""
    segments: list[tuple[int, int]]
    """First row and row after the last of each segment."""
    fingerprint: str


@dataclass(frozen=True)
class Segment:
    """The part of an index that covers some rows of the corpus."""

    rows: range
    folder: Path


@dataclass(frozen=True)
class OpenedIndex:
    """What a kind gets to open: the folder's parts and the corpus."""

    folder: Path
    corpus: Corpus
    info: IndexInfo
    parameters: Any
    """Of the kind's type."""
    shared: Path
    segments: list[Segment]

    @property
    def fingerprint(self) -> str:
        """Identifies what the index returns; deleting a passage from the corpus changes it."""
        return fingerprint([self.info.fingerprint, self.corpus.fingerprint])


class Kind(Protocol):
    """What a kind's class must offer."""

    Parameters: type[msgspec.Struct]
    """Its defaults are the kind's defaults."""
    segment_rows: ClassVar[int]

    def __call__(self, opened: OpenedIndex) -> Retriever:
        """Open the index; raises OSError, ValueError or KeyError if its files are damaged."""
        ...

    def encoder_hash(self, parameters: Any) -> str:
        """Return the content hash of the encoder, as it is now; only asked of kinds that have one."""
        ...

    def prepare(self, corpus: Corpus, shared: Path, parameters: Any) -> EncoderInfo | None:
        """Fill `shared`, an empty folder, once; return the encoder, if one is used."""
        ...

    def build_segment(
        self,
        corpus: Corpus,
        rows: range,
        shared: Path,
        folder: Path,
        parameters: Any,
        advance: Callable[[int], None],
    ) -> None:
        """Index `rows` in `folder`, which is empty; tell `advance` of finished passages."""
        ...


class Composite(Protocol):
    """What a kind's class offers whose parts are indexes themselves, in subfolders; it has no segments."""

    Parameters: type[msgspec.Struct]

    def __call__(self, opened: OpenedIndex) -> Retriever:
        """Open the index; raises OSError, ValueError or KeyError if its files are damaged."""
        ...

    def build_members(self, corpus: Corpus, folder: Path, parameters: Any, ray: str | None) -> None:
        """Build the parts in `folder`, or bring them up to date, on a Ray cluster if one is named."""
        ...


def build_index(corpus: Corpus, kind: str, out: Path, *, ray: str | None = None, **parameters: Any) -> Path:
    """Build an index of `corpus` as the folder `out`, or bring it up to date, and return `out`.

    An index at `out` of the same kind and parameters whose corpus has only grown is extended; any other is
    replaced when the new one is complete. After a kill the same call continues. With `ray`, the address of a cluster,
    its machines build the segments. Raises UsageError for an unknown kind or parameter, and for an `out` that holds
    something else.
    """
    refuse_to_replace(out, "index.json")
    settings = check_parameters(kind, parameters)
    plan = {"format": FORMAT, "kind": kind, "parameters": msgspec.to_builtins(settings)}
    if _extends(out, plan, corpus, settings):
        (out / _PLAN).unlink(missing_ok=True)
        _fill(out, corpus, settings, plan, ray)
        return out
    folder = out.with_name(f".{out.name}.partial")
    _begin(folder, {**plan, "corpus": corpus.fingerprint})
    try:
        _fill(folder, corpus, settings, plan, ray)
    except ExSearchError:
        remove(folder)  # it would fail again; after a kill, Ctrl-C or a full disk the folder is continued
        raise
    put_in_place(folder, out)
    (out / _PLAN).unlink()  # last: without it, a finished folder would be taken for another build's and be made anew
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
    again = f"exsearch index {where} --retriever {info.kind} --out {folder}"
    if corpus.prefix(info.passages) != info.corpus_prefix:
        raise UsageError(
            f"{folder}: built from another corpus than {where}; name the right one (--corpus DIR) "
            f"or build the index again ({again})"
        )
    if len(corpus) > info.passages:
        raise UsageError(
            f"{folder}: {len(corpus) - info.passages} passages were added to {where} since; index them too ({again})"
        )
    try:
        settings = convert(info.parameters, implementation.Parameters)
        segments = [Segment(range(*bounds), _segment_folder(folder, range(*bounds))) for bounds in info.segments]
        return implementation(OpenedIndex(folder, corpus, info, settings, folder / "shared", segments))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UsageError(f"{folder}: damaged index, build it again ({error})") from None


def read_index_info(folder: Path) -> IndexInfo:
    """Read index.json alone; raise UsageError if `folder` is not an index this version reads."""
    path = folder / "index.json"
    if not path.is_file():
        raise UsageError(f"{folder}: not an index folder (no index.json); `exsearch index` makes one")
    if (format := read_json(path, _Format).format) != FORMAT:
        raise UsageError(f"{folder}: index format {format}, this version reads format {FORMAT}; build it again")
    return read_json(path, IndexInfo)


class _Format(msgspec.Struct):
    format: int


def require_same_encoder(encoder: EncoderInfo, built_with: EncoderInfo, folder: Path) -> None:
    """Raise UsageError if an index, of which `folder` is a part, was built with other weights: vectors must compare."""
    if encoder.hash != built_with.hash:
        raise UsageError(
            f"{folder}: its vectors come from an encoder with content hash {built_with.hash}, but "
            f"{encoder.id!r} is now {encoder.hash}; build the index again"
        )


def check_parameters(kind: str, parameters: dict[str, Any]) -> Any:
    """Return `parameters` as the kind's typed ones, defaults filled in; raises UsageError as `build_index` does."""
    implementation = _implementation(kind)
    known = list(implementation.Parameters.__struct_fields__)
    for name in parameters:
        if name not in known:
            raise UsageError(f"index kind {kind!r} has no parameter {name!r}{nearest(name, known)}")
    try:
        return convert(parameters, implementation.Parameters)
    except ShapeError as error:
        raise UsageError(f"index kind {kind!r}: {error}") from None


def _extends(out: Path, plan: dict[str, Any], corpus: Corpus, settings: Any) -> bool:
    """Whether the index at `out` is what `plan` would make of the first rows of `corpus`."""
    if not (out / "index.json").is_file():
        return False
    info = read_json(out / "index.json", _Format)
    if info.format != FORMAT:
        return False
    there = read_index_info(out)
    if plan != {"format": FORMAT, "kind": there.kind, "parameters": there.parameters}:
        return False
    if corpus.prefix(there.passages) != there.corpus_prefix:
        return False
    # an encoder of the same name may have been trained again
    encodes = cast(Kind, _implementation(there.kind))
    return there.encoder is None or encodes.encoder_hash(settings) == there.encoder.hash


def _begin(folder: Path, plan: dict[str, Any]) -> None:
    """Make `folder`, unless a killed build of the same plan left it."""
    path = folder / _PLAN
    if path.is_file() and msgspec.json.decode(path.read_bytes()) == plan:
        return
    remove(folder)
    folder.mkdir(parents=True)
    write_json(path, plan)


def build_segment(
    folder: Path, kind: str, corpus: Corpus, rows: range, settings: Any, advance: Callable[[int], None]
) -> None:
    """Build the segment `rows` of the index in `folder`, whose `shared` is there."""
    with atomic_path(_segment_folder(folder, rows)) as temporary:
        temporary.mkdir()
        implementation = cast(Kind, _implementation(kind))
        implementation.build_segment(corpus, rows, folder / "shared", temporary, settings, advance)


def _fill(folder: Path, corpus: Corpus, settings: Any, plan: dict[str, Any], ray: str | None) -> None:
    """Build what `folder` lacks, and at last write index.json, which makes it count."""
    implementation = _implementation(plan["kind"])
    encoder: EncoderInfo | None = None
    ranges: list[range] = []
    if hasattr(implementation, "build_members"):
        implementation.build_members(corpus, folder, settings, ray)
    else:
        encoder = _prepare(folder / "shared", implementation, corpus, settings)
        ranges = _ranges(folder, len(corpus), implementation.segment_rows)
        _build_segments(folder, ranges, corpus, settings, plan, ray)
    prefix = corpus.prefix(len(corpus))
    assert prefix is not None
    segments = [(rows.start, rows.stop) for rows in ranges]
    info = IndexInfo(
        format=FORMAT,
        kind=plan["kind"],
        parameters=plan["parameters"],
        corpus=_path_from(folder, corpus.folder),
        corpus_prefix=prefix,
        encoder=encoder,
        passages=len(corpus),
        segments=segments,
        fingerprint=_fingerprint(plan, prefix, segments, encoder),
    )
    write_json(folder / "index.json", info)
    if ranges:
        for stray in set((folder / "segments").iterdir()) - {_segment_folder(folder, rows) for rows in ranges}:
            remove(stray)  # of a killed extension that had other rows to add


def _prepare(shared: Path, implementation: Kind, corpus: Corpus, settings: Any) -> EncoderInfo | None:
    """Make what the segments share, unless it is there; return the encoder, if the kind has one."""
    if not shared.is_dir():
        with atomic_path(shared) as temporary:
            temporary.mkdir()
            encoder = implementation.prepare(corpus, temporary, settings)
            write_json(temporary / "encoder.json", encoder)
    return read_json(shared / "encoder.json", EncoderInfo | None)  # type: ignore[arg-type]


def _build_segments(
    folder: Path, ranges: list[range], corpus: Corpus, settings: Any, plan: dict[str, Any], ray: str | None
) -> None:
    """Build the segments that are missing."""
    kind, missing = plan["kind"], [rows for rows in ranges if not _segment_folder(folder, rows).is_dir()]
    if not missing:
        return
    with progress(kind, len(corpus), len(corpus) - sum(map(len, missing))) as bar:
        if ray is not None:
            from exsearch.retrieval.ray_build import build_on_ray

            build_on_ray(ray, folder, kind, corpus, missing, plan["parameters"], bar.advance)
            return
        for rows in missing:
            build_segment(folder, kind, corpus, rows, settings, bar.advance)


def _ranges(folder: Path, passages: int, segment_rows: int) -> list[range]:
    """Return the rows of each segment: those that index.json names, then new ones."""
    index = folder / "index.json"
    ranges = [range(*bounds) for bounds in read_index_info(folder).segments] if index.is_file() else []
    start = ranges[-1].stop if ranges else 0
    return ranges + [
        range(first, min(first + segment_rows, passages)) for first in range(start, passages, segment_rows)
    ]


def _segment_folder(folder: Path, rows: range) -> Path:
    return folder / "segments" / f"{rows.start}-{rows.stop}"


def _implementation(kind: str) -> Kind | Composite:
    if kind not in KINDS:
        suggestion = nearest(kind, list(KINDS))
        raise UsageError(f"unknown retriever kind {kind!r} (known: {', '.join(KINDS)}){suggestion}")
    module, name = KINDS[kind].split(":")
    return cast(Kind | Composite, getattr(importlib.import_module(module), name))


def _path_from(index: Path, corpus: Path) -> str:
    try:
        return Path(os.path.relpath(corpus.resolve(), index.resolve())).as_posix()
    except ValueError:  # on another drive
        return str(corpus.resolve())


def _fingerprint(
    plan: dict[str, Any], corpus: str, segments: list[tuple[int, int]], encoder: EncoderInfo | None
) -> str:
    # the encoder counts by its content, not by the name or path it was loaded from
    model = None if encoder is None else [encoder.hash, encoder.precision]
    named = {name: value for name, value in plan["parameters"].items() if name != "encoder"}
    return fingerprint([FORMAT, plan["kind"], named, corpus, segments, model])
