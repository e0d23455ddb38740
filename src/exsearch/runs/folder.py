"""The run folder as it is written: a run starts in it, or resumes with the settings that it was started with."""

from pathlib import Path

from exsearch.config import Config, TrackingConfig, dump_config, load_config
from exsearch.core.atomic import write_text
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json, write_jsonl
from exsearch.core.toml import read_toml
from exsearch.effects import (
    EARLIER,
    REDEFINED,
    Change,
    as_earlier,
    changes,
    other_content,
    unknown_to,
    value_of,
    with_value,
    written,
)
from exsearch.evaluation.protocol import Protocol, check_protocol, write_protocol
from exsearch.logs.metrics_log import MetricsLog
from exsearch.logs.tracking import open_mirrors
from exsearch.questions.question import Question, read_questions
from exsearch.runs.layout import RunLayout


class RunFolder(RunLayout):
    """A run folder to write: it keeps what the run was started with, and refuses to resume with anything else."""

    def __init__(self, root: Path, tracking: TrackingConfig | None = None) -> None:
        """Name the folder; nothing is created yet."""
        super().__init__(root)
        self.metrics = MetricsLog(self.metrics_file, open_mirrors(tracking, root, root.name) if tracking else ())

    def as_its_version_did(self, config: Config) -> tuple[Config, str]:
        """Return a config with the behaviour of the version that started the run here, and a sentence about it.

        Settings that that version did not have keep its behaviour, whatever the config says: nothing of the method
        changes within a run. The sentence is empty if the version had all settings, or if there is no run.
        """
        unknown = self._unknown()
        if not unknown:
            return config, ""
        begun = load_config(self.config)
        for key in REDEFINED:
            if value_of(config, key) == value_of(Config(), key):
                config = with_value(config, key, value_of(begun, key))
        as_it_did = ", ".join(f"{key} = {written(EARLIER[key])}" for key in unknown)
        return as_earlier(config, unknown), f"Begun by an earlier version, so this run goes on as it did: {as_it_did}."

    def _unknown(self) -> list[str]:
        """Return the settings that did not exist in the version that started the run here."""
        return unknown_to(read_toml(self.config)) if self.config.exists() else []

    def check(self, config: Config, contents: dict[str, str] | None = None) -> list[Change]:
        """Return the settings that differ from the existing run's. Raises UsageError if they change results.

        `config` is from `as_its_version_did`. `contents` has, by key, fingerprints for settings that name files or
        models. Without it, only the others are compared; index and questions are compared by `claim_inputs`.
        """
        if not self.config.exists():
            return []
        found = changes(as_earlier(load_config(self.config), self._unknown()), config)
        refused = [str(change) for change in found if change.effect == "result"]
        if contents is not None:
            begun = read_json(self.contents, dict[str, str]) if self.contents.exists() else {}
            for key, content in contents.items():
                if begun.get(key, content) != content:
                    refused.append(other_content(key, begun[key], content))
                elif key not in begun:  # started by an earlier version
                    refused += [str(change) for change in found if change.key == key]
        if refused:
            raise UsageError(
                f"{self.root}: holds a run with other settings, which change its results: {'; '.join(refused)}. "
                f"Set them as in {self.config}, choose another --out or remove the folder"
            )
        return found

    def claim(self, config: Config, contents: dict[str, str] | None = None) -> list[Change]:
        """Write the config and the fingerprints of what its names mean; for an existing run, do the same as `check`.

        Without `contents`, an existing run keeps its config.
        """
        found = self.check(config, contents)
        if contents is not None or not self.config.exists():
            write_text(self.config, dump_config(config, leave_out=self._unknown()))
        if contents is not None:
            write_json(self.contents, contents)
        return found

    def claim_inputs(self, protocol: Protocol, splits: dict[str, list[Question]]) -> None:
        """Write the questions and the conditions of scores. Raises UsageError if the run here has others.

        A file may have changed under its name, and the results here would be taken for results on it.
        """
        for split, questions in splits.items():
            used = self.questions(split)
            if used.exists() and read_questions(used) != questions:
                raise self._other(f"questions in data.{split}", used)
        check_protocol(self.root, protocol)
        write_protocol(self.protocol, protocol)
        for split, questions in splits.items():
            write_jsonl(self.questions(split), questions)

    def _other(self, what: str, path: Path) -> UsageError:
        return UsageError(
            f"{self.root}: holds a run with other {what} (see {path}); choose another --out or remove the folder"
        )
