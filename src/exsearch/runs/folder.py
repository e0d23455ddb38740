"""The run folder: where each stage of a run leaves its result, and how a later start finds it."""

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
    """Trajectories that the M-step learned from."""
    validation_em: float
    mean_answer_probability: float | None = None
    """Mean p(y | x, z) of the E-step's samples, 0 for those without an answer; None in older files."""
    malformed: float | None = None
    """Share of the E-step's samples that ended as malformed; None in older files."""
    sources: dict[str, float] = {}
    """From which E-step the weight comes that the M-step learned by: shares, by iteration."""
    ratios_worth: dict[str, float] = {}
    """Of each earlier E-step that was weighed again: the effective sample size of its importance ratios."""
    guard: str = ""
    """What became of the step, in a sentence; empty without a guard."""


class RunSummary(msgspec.Struct, frozen=True):
    """The content of summary.json."""

    title: str
    models: list[str]
    best: str
    seconds: dict[str, float]
    comparison: Comparison | None
    iterations: list[Iteration]
    train_answer_probability: dict[str, Figure] = {}
    """Mean p(y | x, z) of each model on the same training questions, greedy, 0 where it gave no answer."""


class RunFolder:
    """Paths of one run. A stage is complete when its file or folder exists: all are renamed into place."""

    def __init__(self, root: Path, tracking: TrackingConfig | None = None) -> None:
        """Name the folder; nothing is created yet."""
        self.root = root
        self.metrics = MetricsLog(root / "metrics.jsonl", open_mirrors(tracking, root, root.name) if tracking else ())

    def as_its_version_did(self, config: Config) -> tuple[Config, str]:
        """Return a config as the version meant it that began the run here, and a sentence about what that means.

        What that version had no setting for stays as it did it, whatever the config says: nothing of the method changes
        within a run. The sentence is empty for a run that knows all settings, and where there is none.
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
        """Return the settings that the version had none of which began the run here."""
        return unknown_to(read_toml(self.config)) if self.config.exists() else []

    def check(self, config: Config, contents: dict[str, str] | None = None) -> list[Change]:
        """Return the settings that the run that is here was begun with otherwise; raises UsageError for results' sake.

        `config` is one of `as_its_version_did`. `contents` says, by their keys, what settings that name something stand
        for. Without it only the others are compared; index and questions are compared by `claim_inputs`.
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
                elif key not in begun:  # of an earlier version
                    refused += [str(change) for change in found if change.key == key]
        if refused:
            raise UsageError(
                f"{self.root}: holds a run with other settings, which change its results: {'; '.join(refused)}. "
                f"Set them as in {self.config}, choose another --out or remove the folder"
            )
        return found

    def claim(self, config: Config, contents: dict[str, str] | None = None) -> list[Change]:
        """Write the config and what its names stand for; the same as `check` for a run that is already here.

        Without `contents` a run that is here keeps its config.
        """
        found = self.check(config, contents)
        if contents is not None or not self.config.exists():
            write_text(self.config, dump_config(config, leave_out=self._unknown()))
        if contents is not None:
            write_json(self.contents, contents)
        return found

    def claim_inputs(self, protocol: Protocol, splits: dict[str, list[Question]]) -> None:
        """Write the questions and what scores depend on; raises UsageError if the run that is here has others.

        A file may have changed under its name: what is here would pass for scores of it.
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
        """Return the file that says what the settings that name files and models stand for."""
        return self.root / "contents.json"

    def questions(self, split: str) -> Path:
        """Return the file of the questions this run used."""
        return self.root / "questions" / f"{split}.jsonl"

    @property
    def warmup_trajectories(self) -> Path:
        """Return the file of gold trajectories that the warm-up learned from."""
        return self.root / "warmup-trajectories.jsonl"

    def checkpoint(self, name: str) -> Path:
        """Return the checkpoint folder of `warmup` or `iter-n`."""
        return self.root / "warmup" if name == "warmup" else self.root / name / "checkpoint"

    def part(self, name: str, part: str) -> Path:
        """Return the folder of a model that has gone a `part` of an iteration's step, until the guard has decided."""
        return self.root / name / part

    def order(self, name: str, number: int) -> Path:
        """Return the folder of a model trained in one of several orders, until these are averaged."""
        return self.root / name / f"order-{number}"

    @property
    def guard(self) -> Path:
        """Return the folder of what models made of the guard's questions."""
        return self.root / "guard"

    def guard_decision(self, name: str) -> Path:
        """Return the file that says what became of an iteration's step."""
        return self.root / name / "guard.json"

    def reweighed(self, name: str, earlier: str) -> Path:
        """Return the weights that the M-step of an iteration gives to the trajectories of an earlier one."""
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
        """Return the file of the run's result."""
        return self.root / "summary.json"
