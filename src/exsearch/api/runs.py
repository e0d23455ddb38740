"""Whole runs of the EM loop: starts one, or opens an existing one."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import msgspec

from exsearch.agent.asking import SearchAgent
from exsearch.api.models import load_agent
from exsearch.config import Config, checked, load_config
from exsearch.core.atomic import is_file
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json
from exsearch.core.locks import sole_writer
from exsearch.em.loop import EMRun
from exsearch.em.started_run import warms_up
from exsearch.engine.models.builtin import resolve_model
from exsearch.evaluation.folder import Evaluated
from exsearch.report.write import write_report
from exsearch.retrieval.index.folder import INFO
from exsearch.runs.evaluations import read_evaluation
from exsearch.runs.layout import RunLayout
from exsearch.runs.records import RunSummary


def train(recipe: Config | str | Path, out: str | Path, say: Callable[[str], None] = print) -> "Run":
    """Run the EM loop of a recipe, a file or settings, in the folder `out`; return the run.

    It does what `exsearch train` does: every stage leaves its result in the folder, with a report at the end, and the
    same call resumes an interrupted run. `say` is called with a line about each stage. Raises UsageError if `out` has a
    run with other settings that change its results.

    >>> run = xs.train("work/recipe.toml", "runs/mine")  # doctest: +SKIP
    >>> run.checkpoint("warmup")  # doctest: +SKIP
    PosixPath('runs/mine/warmup')
    """
    folder = Path(out)
    config = load_config(recipe) if isinstance(recipe, (str, Path)) else checked(recipe, Config)
    with sole_writer(folder):
        EMRun(config, folder, say).run()
        write_report(folder)
    return Run(folder)


class Run:
    """The folder of a run of the EM loop, as `exsearch quickstart` and `exsearch train` leave it.

    Its models are `warmup` and, if their steps were taken, `iter-1`, `iter-2`, ...; by default, methods use the best
    one by validation or by the guard.

    >>> run = xs.Run("runs/quickstart")  # doctest: +SKIP
    >>> run.evaluation("warmup").figures["em"].n  # doctest: +SKIP
    100
    >>> [question, *_] = xs.read_questions("runs/quickstart/world/test.jsonl")  # doctest: +SKIP
    >>> with run.load_agent() as agent:  # doctest: +SKIP
    ...     trajectory = agent.answer(question)
    """

    def __init__(self, folder: str | Path) -> None:
        """Open the folder. Raises UsageError if no run was started there."""
        self.folder = Path(folder)
        self._paths = RunLayout(self.folder)
        if not self._paths.config.is_file():
            raise UsageError(f"{folder}: has no run (no {self._paths.config.name})")

    @cached_property
    def config(self) -> Config:
        """The resolved settings."""
        return load_config(self._paths.config)

    @property
    def summary(self) -> RunSummary:
        """The results of the run. Raises UsageError if it has not ended yet."""
        if not self._paths.summary.is_file():
            raise UsageError(
                f"{self.folder}: the run has not ended yet; run the command that started it again to resume"
            )
        return read_json(self._paths.summary, RunSummary)

    def checkpoint(self, name: str | None = None) -> Path:
        """Return the checkpoint folder of a model. Raises UsageError if there is none yet."""
        model = self.summary.best if name is None else name
        folder = self._paths.checkpoint(model)
        if model == "warmup" and not warms_up(self.config):
            return resolve_model(self.config.model.path)  # the model needed no warm-up
        if not folder.is_dir():
            raise UsageError(f"{self.folder}: has no model {model!r}")
        return folder

    def evaluation(self, name: str | None = None) -> Evaluated:
        """Return a model's evaluation on the test questions; also for `closed-book` and `majority`."""
        return read_evaluation(self._paths.test_eval(self.summary.best if name is None else name))

    def load_agent(self, name: str | None = None) -> SearchAgent:
        """Load a model with the settings and the index of the run, in this process.

        A relative path of the index is looked up in the run folder first, which may have moved since, then in the
        working folder.
        """
        config = self.config
        inside = self.folder / Path(config.data.index).name
        index = str(inside) if is_file(inside / INFO) else config.data.index
        model = msgspec.structs.replace(config.model, path=str(self.checkpoint(name)))
        here = msgspec.structs.replace(config.rollout, ray="")
        return load_agent(model, index, config.agent, rollout=here)
