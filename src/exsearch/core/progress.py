"""Progress of long work: on a terminal, a bar with rate and remaining time; elsewhere, a plain line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Counts finished units of one piece of work."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        """Start at `done` of `total` units; these `done` units do not count towards the rate."""
        self.label, self.total, self.done, self._first = label, total, done, done
        self._start = self._last_line = time.monotonic()

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` more; print at most one plain line every 10 seconds, and one at the end."""
        self.done += units
        now = time.monotonic()
        if now - self._last_line > 10 or self.done >= self.total:
            self._last_line = now
            print(f"  {self.label}: {self.done}/{self.total}{self._pace(now)} {note}".rstrip(), file=sys.stderr)

    def _pace(self, now: float) -> str:
        seconds = max(now - self._start, 1e-9)
        if self.done >= self.total:
            return f", {seconds:.0f} s"
        if self.done == self._first:
            return ""
        rate = (self.done - self._first) / seconds
        return f", {rate:.1f}/s, {(self.total - self.done) / rate:.0f} s left"


class _Bar(Progress):
    def __init__(self, label: str, total: int, done: int = 0) -> None:
        super().__init__(label, total, done)
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("  {task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(label, total=total, completed=done, note="")
        self._bar.start()

    def advance(self, units: int = 1, note: str = "") -> None:
        self.done += units
        self._bar.update(self._task, advance=units, note=note)

    def stop(self) -> None:
        self._bar.stop()


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Yield a Progress for `total` units of work, shown on stderr."""
    if not sys.stderr.isatty():
        yield Progress(label, total, done)
        return
    bar = _Bar(label, total, done)
    try:
        yield bar
    finally:
        bar.stop()
