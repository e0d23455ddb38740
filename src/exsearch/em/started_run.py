"""The start of a run: its settings and inputs are checked, and its folder is claimed, before any work is done."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exsearch.agent.experiment import Experiment
from exsearch.agent.loading import as_begun
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config, load_config
from exsearch.core.errors import UsageError
from exsearch.em.questions import RunQuestions, require_files
from exsearch.em.weigh import weighting_of
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.protocol import Protocol, make_protocol
from exsearch.questions.question import Question
from exsearch.runs.contents import contents_of
from exsearch.runs.folder import RunFolder
from exsearch.training.trainer import refuse_adapter, require_length
from exsearch.warmup.plan import GoldPassages
from exsearch.warmup.write import read_warmup

Say = Callable[[str], None]


@dataclass(frozen=True)
class StartedRun:
    """A run that has started: everything that its stages work with."""

    config: Config
    """The settings that the run folder is claimed with."""
    folder: RunFolder
    experiment: Experiment
    """Its settings differ from `config` in the date in prompts, for a run that an earlier version started."""
    questions: RunQuestions
    ready: list[Trajectory]
    """The trajectories of `data.warmup`; empty without it."""
    gold_passages: GoldPassages
    say: Say
    """Receives a line about each stage."""

    def checkpoint(self, name: str) -> Path:
        """Return a model's checkpoint; without a warm-up, the model of that name is the base."""
        if name == "warmup" and not warms_up(self.config):
            return self.experiment.model
        return self.folder.checkpoint(name)

    def protocol(self, questions: list[Question]) -> Protocol:
        """Return the conditions that a model's scores on these questions depend on."""
        experiment = self.experiment
        return make_protocol(self.config.agent, experiment.retriever.fingerprint, questions, experiment.grammar)


def warms_up(config: Config) -> bool:
    """Return whether a run has a warm-up; without one, the model is assumed to know the grammar."""
    return bool(config.data.warmup) or config.warmup.questions > 0


def begin(config: Config, root: Path, say: Say) -> StartedRun:
    """Start a run in the folder `root`, or resume the one that is there. Raises UsageError."""
    folder = RunFolder(root, config.tracking)
    config, earlier = folder.as_its_version_did(config)
    if earlier:
        say(earlier)
    _check_settings(config)
    experiment = Experiment(config)
    _ = experiment.retriever  # fails first if there is no index
    questions = RunQuestions.read(config)
    gold_passages = GoldPassages.of(experiment)
    say(f"Model: {config.model.path} (created or downloaded once to the cache folder, unless it is a local folder).")
    _ = experiment.model
    config, experiment = _with_its_date(config, experiment, folder, say)
    ready = []
    if config.data.warmup:
        ready = read_warmup(Path(config.data.warmup), experiment.chat)  # now, not after the baselines
        require_length(experiment.model, max(len(trajectory.token_ids) for trajectory in ready))
    run = StartedRun(config, folder, experiment, questions, ready, gold_passages, say)
    _claim(run)
    return run


def _check_settings(config: Config) -> None:
    """Raise UsageError for settings that name no file, or need scores that exploration is not set to compute."""
    require_files(config)
    weighting_of(config.weigh)
    steps = config.explore.score_steps or config.explore.branches > 1
    if config.weigh.gate_gain and not (steps or config.explore.score_opening):
        raise UsageError("weigh.gate_gain needs explore.score_opening = true")
    if config.learn.step_credit and not steps:
        raise UsageError("learn.step_credit needs explore.score_steps = true")
    refuse_adapter(config.model)


def _with_its_date(config: Config, experiment: Experiment, folder: RunFolder, say: Say) -> tuple[Config, Experiment]:
    """Return the settings to claim the folder with, and the experiment with the date of the run's existing prompts.

    They differ for a run that an earlier version started, since its folder does not record the date.
    """
    evaluated = [path / TRAJECTORIES for path in (folder.test_eval("closed-book"), folder.dev_eval("warmup"))]
    ready = [Path(config.data.warmup)] if config.data.warmup else []
    actual = as_begun(experiment, *ready, folder.warmup_trajectories, *evaluated)
    if (day := actual.config.agent.date) == config.agent.date:
        return config, experiment
    say(f"The chat template gets {day} as today's date, as in the run's existing prompts.")
    has_date = not folder.config.exists() or load_config(folder.config).agent.date == day
    return (actual.config if has_date else config), actual


def _claim(run: StartedRun) -> None:
    """Record in the folder what the run depends on; raises UsageError if it holds a run with other settings."""
    contents = contents_of(run.config, run.experiment.model)
    run.folder.check(run.config, contents)
    run.folder.claim_inputs(run.protocol(run.questions.test), run.questions.splits())
    if differences := run.folder.claim(run.config, contents):
        run.say(f"Resumed with changed settings that do not affect results: {'; '.join(map(str, differences))}.")
