"""The run's metrics.jsonl: one line per set of figures, safe to resume."""

from collections.abc import Sequence
from pathlib import Path

from exsearch.core.journal import Journal
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.logs.tracking import Line, Mirror


class MetricsLog:
    """Appends figures to a JSONL file; every line names its stage and step."""

    def __init__(self, path: Path, mirrors: Sequence[Mirror] = ()) -> None:
        """Name the file. From the first append on, the mirrors also show its lines, old and new."""
        self.path, self._mirrors = path, mirrors
        self._shown = 0
        """Number of lines that the mirrors were given; 0 before the first."""

    def append(self, stage: str, step: int, **figures: float) -> None:
        """Add one line."""
        with Journal(self.path) as journal:
            journal.append([{"stage": stage, "step": step, **figures}])
        if self._mirrors and not self._shown:
            self._replay()
        elif self._mirrors:
            self._shown += 1
            for mirror in self._mirrors:
                mirror.append(Line(self._shown, stage, step, figures))

    def rewind(self, stage: str, step: int) -> None:
        """Drop the lines of a stage after `step`: the stage continues from there, and will write them again."""
        if not self.path.exists():
            return
        with Journal(self.path):
            pass  # drops a torn last line
        lines = list(read_jsonl(self.path, dict[str, object]))
        remaining = [line for line in lines if not (line["stage"] == stage and int(str(line["step"])) > step)]
        if len(remaining) < len(lines):
            write_jsonl(self.path, remaining)
            if self._shown:
                self._replay()

    def _replay(self) -> None:
        lines = []
        for number, line in enumerate(read_jsonl(self.path, dict[str, str | float]), start=1):
            figures = {name: value for name, value in line.items() if not isinstance(value, str) and name != "step"}
            lines.append(Line(number, str(line["stage"]), int(line["step"]), figures))
        self._shown = len(lines)
        for mirror in self._mirrors:
            mirror.replay(lines)

    def close(self) -> None:
        """Make the mirrors write what they have buffered."""
        for mirror in self._mirrors:
            mirror.close()
