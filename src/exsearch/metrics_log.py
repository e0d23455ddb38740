"""The run's metrics.jsonl: one line a figure set, safe to resume."""

from collections.abc import Sequence
from pathlib import Path

from exsearch.files import Journal, read_jsonl, write_jsonl
from exsearch.tracking import Mirror


class MetricsLog:
    """Appends figures to a JSONL file; every line names its stage and step."""

    def __init__(self, path: Path, mirrors: Sequence[Mirror] = ()) -> None:
        """Open or create the file; what is appended is shown in the mirrors, too."""
        self.path, self._mirrors = path, mirrors

    def append(self, stage: str, step: int, **figures: float) -> None:
        """Add one line."""
        with Journal(self.path) as journal:
            journal.append([{"stage": stage, "step": step, **figures}])
        for mirror in self._mirrors:
            mirror.append(stage, step, figures)

    def rewind(self, stage: str, step: int) -> None:
        """Drop the lines of a stage after `step`: the stage continues from there and will write them again."""
        if not self.path.exists():
            return
        with Journal(self.path):
            pass  # cuts a torn last line
        lines = list(read_jsonl(self.path, dict[str, object]))
        kept = [line for line in lines if not (line["stage"] == stage and int(str(line["step"])) > step)]
        if len(kept) < len(lines):
            write_jsonl(self.path, kept)

    def close(self) -> None:
        """Let the mirrors write what they hold back."""
        for mirror in self._mirrors:
            mirror.close()
