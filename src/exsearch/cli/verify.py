"""`exsearch verify`: find damaged files."""

from pathlib import Path

import click

from exsearch.cli.options import json_option

MB = 1_000_000


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@json_option
def verify(paths: tuple[Path, ...], as_json: bool) -> None:
    """Read all files of corpora, indexes, checkpoints, journals or runs at PATH, and name the damaged ones.

    Exit code 1 if there are any. Opening one of these compares sizes only, since reading would take too long.
    """
    import time

    import msgspec

    from exsearch.core.errors import ExSearchError
    from exsearch.core.progress import progress
    from exsearch.verify import checks_of, faults_in, in_whole

    checks = [check for path in paths for check in checks_of(path)]
    total = sum(check.bytes for check in checks)
    start = time.monotonic()
    with progress("verify, MB", max(total // MB, 1)) as bar:
        faults = list(faults_in(checks, in_whole(MB, bar.advance)))
    if as_json:
        click.echo(msgspec.json.encode({"files": len(checks), "bytes": total, "faults": faults}).decode())
    for fault in [] if as_json else faults:
        click.echo(f"{fault.path}: {fault.reason}; {fault.remedy}")
    rate = total / MB / max(time.monotonic() - start, 1e-9)
    if faults:
        raise ExSearchError(f"{len(faults)} of {len(checks)} files are damaged")
    if not as_json:
        click.echo(f"{len(checks)} files, {total / MB:.1f} MB, as they were written ({rate:.0f} MB/s)")
