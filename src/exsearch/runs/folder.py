"""The run folder: where each stage of a run writes its result, and how a later start finds it."""

from pathlib import Path

import msgspec

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
from exsearch.evaluation.protocol import PROTOCOL, Protocol, check_protocol, write_protocol
from exsearch.evaluation.scores import Figure
from exsearch.logs.metrics_log import MetricsLog
from exsearch.logs.tracking import open_mirrors
from exsearch.questions.question import Question, read_questions


class Comparison(msgspec.Struct, frozen=True):
    """Exact match of model b minus that of model a, paired over the test questions."""

    a: str
    b: str
    difference: Figure


class Iteration(msgspec.Struct, frozen=True):
    """The E-step's figures of one EM iteration, and the validation score of the model it ended with."""

    name: str
    questions: int
    skipped: int
    effective_sample_size: float
    weight_entropy: float
    sample_exact_match: float
    any_exact_match: float
    examples: int
    """Number of trajectories that the M-step learned from."""
    validation_em: float
    mean_answer_probability: float | None = None
    """Mean p(y | x, z) of the E-step's samples, 0 for those without an answer; None in older files."""
    malformed: float | None = None
    """Share of the E-step's samples that ended as malformed; None in older files."""
    sources: dict[str, float] = {}
    """Shares of the M-step's weight by the iteration whose E-step it comes from."""
    ratios_worth: dict[str, float] = {}
    """Effective sample size of the importance ratios, by earlier iteration whose E-step was reweighed."""
    guard: str = ""
    """What became of the step, as a sentence; empty without a guard."""


class RunSummary(msgspec.Struct, frozen=True):
    """The content of summary.json."""

    title: str
    models: list[str]
    best: str
    seconds: dict[str, float]
    comparison: Comparison | None
    iterations: list[Iteration]
    train_answer_probability: dict[str, Figure] = {}
    """Mean p(y | x, z) of each model on the same training questions, greedy, 0 for no answer."""


class RunFolder:
    """Paths of one run. A stage is complete when its file or folder exists, since all are renamed into place."""

    def __init__(self, root: Path, tracking: TrackingConfig | None = None) -> None:
        """Name the folder; nothing is created yet."""
        self.root = root
        self.metrics = MetricsLog(root / "metrics.jsonl", open_mirrors(tracking, root, root.name) if tracking else ())

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
        write_protocol(self.root / PROTOCOL, protocol)
        for split, questions in splits.items():
            write_jsonl(self.questions(split), questions)

    def _other(self, what: str, path: Path) -> UsageError:
        return UsageError(
            f"{self.root}: holds a run with other {what} (see {path}); choose another --out or remove the folder"
        )

    @property
    def config(self) -> Path:
        """Return the file of the resolved settings."""
        return self.root / "config.toml"

    @property
    def contents(self) -> Path:
        """Return the file with fingerprints of the files and models that settings name."""
        return self.root / "contents.json"

    def questions(self, split: str) -> Path:
        """Return the file of a split's questions, as used by this run."""
        return self.root / "questions" / f"{split}.jsonl"

    @property
    def warmup_trajectories(self) -> Path:
        """Return the file of the warm-up's gold trajectories."""
        return self.root / "warmup-trajectories.jsonl"

    def checkpoint(self, name: str) -> Path:
        """Return the checkpoint folder of `warmup` or `iter-n`."""
        return self.root / "warmup" if name == "warmup" else self.root / name / "checkpoint"

    def part(self, name: str, part: str) -> Path:
        """Return the folder of a model after a `part` of an iteration's step, kept until the guard has decided."""
        return self.root / name / part

    def order(self, name: str, number: int) -> Path:
        """Return the folder of a model trained in one of several orders, kept until these are averaged."""
        return self.root / name / f"order-{number}"

    @property
    def guard(self) -> Path:
        """Return the folder of the guard's trajectories."""
        return self.root / "guard"

    def guard_decision(self, name: str) -> Path:
        """Return the file of the decision on an iteration's step."""
        return self.root / name / "guard.json"

    def reweighed(self, name: str, earlier: str) -> Path:
        """Return the weights of an earlier iteration's trajectories in the M-step of an iteration."""
        return self.root / name / "reweighed" / f"{earlier}.jsonl"

    def trajectories(self, name: str) -> Path:
        """Return the journal of an iteration."""
        return self.root / name / "trajectories.jsonl"

    def weights(self, name: str) -> Path:
        """Return the weights of an iteration."""
        return self.root / name / "weights.jsonl"

    def test_eval(self, name: str) -> Path:
        """Return the folder of a model's evaluation on the test questions."""
        return self.root / "eval" / name

    def dev_eval(self, name: str) -> Path:
        """Return the folder of a model's evaluation on the validation questions."""
        return self.root / ("warmup-eval" if name == "warmup" else f"{name}/eval")

    def train_eval(self, name: str) -> Path:
        """Return the folder of a model's evaluation on the first training questions."""
        return self.root / "train-eval" / name

    @property
    def summary(self) -> Path:
        """Return the file of the run's results."""
        return self.root / "summary.json"
