"""Updates the segments of an index: builds what is missing or damaged, and merges many small ones."""

from pathlib import Path

import numpy as np

from exsearch.core.atomic import atomic_path, remove_unless_held
from exsearch.core.checksums import check_files, write_checksums
from exsearch.core.mapping import save_array
from exsearch.core.merging import segments_to_merge
from exsearch.core.messages import logger
from exsearch.core.progress import progress
from exsearch.core.trouble import damage_reason, machine_trouble
from exsearch.corpus.layout import Rows
from exsearch.retrieval.index.build_on_ray import build_on_ray
from exsearch.retrieval.index.folder import DROPPED, PARTS, SEGMENTS, SHARED, IndexSegment, cuts, segment_at
from exsearch.retrieval.index.kinds import DAMAGE, can_merge
from exsearch.retrieval.index.segments import BuildTarget, build_segment


def update_segments(target: BuildTarget, listed: list[range], ray: str | None) -> list[range]:
    """Cover all rows of the corpus, starting from the segments `listed`; return the new list of segments.

    On return, those of `listed` that were merged also still exist, so that index.json may name either. With `ray`, the
    machines of that cluster build.
    """
    implementation = target.implementation
    parts = listed + cuts(len(target.corpus), implementation.segment_rows, listed[-1].stop if listed else 0)
    # merges that may change hits wait for an extension, which changes the fingerprint anyway
    merged = len(parts) > len(listed) or implementation.indivisible(target.settings) is None
    runs = segments_to_merge([len(rows) for rows in parts], implementation.segment_rows) if merged else []
    groups = _grouped(parts, runs)
    to_build: list[range] = []
    to_merge: list[list[range]] = []
    for group in groups:
        if _is_sound(target, _joined(group)):
            continue
        if not can_merge(implementation):
            to_build.append(_joined(group))
            continue
        unsound = {rows: _builds(target, rows) for rows in group if len(group) == 1 or not _is_sound(target, rows)}
        for rows, builds in unsound.items():
            to_build += [build for build in builds if build == rows or not _is_sound(target, build)]
        members = [build for rows in group for build in unsound.get(rows, [rows])]
        if len(members) > 1:
            to_merge.append(members)
    _build(target, to_build, ray)
    for group in to_merge:
        _merge(target, [segment_at(target.folder, rows) for rows in group])
    return [_joined(group) for group in groups]


def discard_unlisted(folder: Path, segments: list[range]) -> None:
    """Remove what is in the segments folder of the index in `folder` but not one of `segments`."""
    if (folder / SEGMENTS).is_dir():
        for stray in set((folder / SEGMENTS).iterdir()) - {segment_at(folder, rows).folder for rows in segments}:
            remove_unless_held(stray)


def _build(target: BuildTarget, to_build: list[range], ray: str | None) -> None:
    if not to_build:
        return
    total = len(target.corpus)
    with progress(target.kind, total, total - sum(map(len, to_build))) as bar:
        if ray is not None:
            build_on_ray(ray, target, to_build, bar.advance)
            return
        for rows in to_build:
            build_segment(target, rows, bar.advance)


def _merge(target: BuildTarget, parts: list[IndexSegment]) -> None:
    implementation = target.implementation
    assert can_merge(implementation)
    deleted = [target.corpus.deleted_in(part.rows) for part in parts]
    rows = _joined([part.rows for part in parts])
    with atomic_path(segment_at(target.folder, rows).folder) as temporary:
        temporary.mkdir()
        dropped_rows = [part.dropped() for part in parts]
        if implementation.merge_segments(parts, deleted, target.folder / SHARED, temporary, target.settings):
            dropped_rows.append(target.corpus.deleted_in(rows) + rows.start)
        dropped: Rows = np.unique(np.concatenate(dropped_rows))
        if len(dropped):
            save_array(temporary / DROPPED, dropped)
        if target.encodes:
            save_array(temporary / PARTS, np.array([build.start for part in parts for build in part.builds()]))
        write_checksums(temporary)


def _is_sound(target: BuildTarget, rows: range) -> bool:
    """Return whether a segment exists and its files are whole; print a message if they are damaged."""
    segment = segment_at(target.folder, rows)
    if not segment.folder.is_dir():
        return False
    try:
        check_files(segment.folder, cheap=0)  # an addition to a large index looks at all of its segments
        target.implementation.check_segment(segment, target.folder / SHARED, target.settings)
    except (OSError, MemoryError, *DAMAGE) as error:
        if trouble := machine_trouble(error, segment.folder):
            raise trouble from None
        logger.warning(f"{segment.folder}: damaged; built again{damage_reason(error)}")
        return False
    return True


def _builds(target: BuildTarget, rows: range) -> list[range]:
    """Return the ranges that a damaged segment was merged from; the segment itself if they are not known."""
    try:
        return segment_at(target.folder, rows).builds()
    except (OSError, *DAMAGE):
        return [rows]


def _grouped(parts: list[range], runs: list[range]) -> list[list[range]]:
    """Return the parts in groups: those of a run, given by their numbers, together, and the others one by one."""
    merged = {number for run in runs for number in run}
    groups = [range(number, number + 1) for number in range(len(parts)) if number not in merged] + runs
    return [[parts[number] for number in group] for group in sorted(groups, key=lambda group: group.start)]


def _joined(parts: list[range]) -> range:
    return range(parts[0].start, parts[-1].stop)
