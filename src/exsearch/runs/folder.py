"""Writes a run folder: a run starts in it, or resumes with the settings that it was started with."""

from pathlib import Path

from exsearch.config import Config, TrackingConfig, dump_config, load_config
from exsearch.core.atomic import write_text
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json, write_jsonl
from exsearch.core.scratch import remove_abandoned
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
    """A run folder for writing. It records what the run was started with, and refuses to resume with anything else."""

    def __init__(self, root: Path, tracking: TrackingConfig | None = None) -> None:
        """Keep the folder's path; nothing is created yet."""
        super().__init__(root)
        self.metrics = MetricsLog(self.metrics_file, open_mirrors(tracking, root, root.name) if tracking else ())

    def as_its_version_did(self, config: Config) -> tuple[Config, str]:
        """Return a config with the behaviour of the version that started the run here, and a sentence about it.

        Settings that the version did not have get the values of its behaviour, whatever the config says, so that the
        method does not change within a run. The sentence is empty if the version had all settings, or if there is no
        run.
        """
        unknown = self._unknown()
        if not unknown:
            return config, ""
        original = load_config(self.config)
        for key in REDEFINED:
            if value_of(config, key) == value_of(Config(), key):
                config = with_value(config, key, value_of(original, key))
        behaviour = ", ".join(f"{key} = {written(EARLIER[key])}" for key in unknown)
        sentence = f"Started by an earlier version, so this run keeps its behaviour: {behaviour}."
        return as_earlier(config, unknown), sentence

    def _unknown(self) -> list[str]:
        """Return the settings that did not exist in the version that started the run here."""
        return unknown_to(read_toml(self.config)) if self.config.exists() else []

    def check(self, config: Config, contents: dict[str, str] | None = None) -> list[Change]:
        """Return the settings that differ from the existing run's. Raises UsageError if they change results.

        `config` must come from `as_its_version_did`. `contents` has fingerprints, by key, for settings that name files
        or models. Without it, only the others are compared; index and questions are compared by `claim_inputs`.
        """
        if not self.config.exists():
            return []
        differences = changes(as_earlier(load_config(self.config), self._unknown()), config)
        refused = [str(change) for change in differences if change.effect == "result"]
        if contents is not None:
            original = read_json(self.contents, dict[str, str]) if self.contents.exists() else {}
            for key, content in contents.items():
                if original.get(key, content) != content:
                    refused.append(other_content(key, original[key], content))
                elif key not in original:  # started by an earlier version
                    refused += [str(change) for change in differences if change.key == key]
        if refused:
            raise UsageError(
                f"{self.root}: holds a run with other settings, which change its results: {'; '.join(refused)}. "
                f"Set them as in {self.config}, choose another --out or remove the folder"
            )
        return differences

    def claim(self, config: Config, contents: dict[str, str] | None = None) -> list[Change]:
        """Write the config and the fingerprints of what it names, after checking an existing run as `check` does.

        Without `contents`, an existing run keeps its config.
        """
        differences = self.check(config, contents)
        remove_abandoned(self.root)
        if contents is not None or not self.config.exists():
            write_text(self.config, dump_config(config, leave_out=self._unknown()))
        if contents is not None:
            write_json(self.contents, contents)
        return differences

    def claim_inputs(self, protocol: Protocol, splits: dict[str, list[Question]]) -> None:
        """Write the questions and the protocol. Raises UsageError if the existing run has different ones.

        A file may have changed and kept its name; the run's results would then be taken for results on the new content.
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
