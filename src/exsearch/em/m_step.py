"""The M-step of a run: learn from the rollouts of its E-step, and of earlier ones if the settings say so."""

from dataclasses import dataclass, replace
from pathlib import Path

from exsearch.config import TrainingConfig
from exsearch.core.atomic import remove
from exsearch.core.errors import UsageError
from exsearch.core.seeds import derive_seed
from exsearch.em.engine_keeper import EngineKeeper
from exsearch.em.questions import refuse_learned
from exsearch.em.replay import Contribution, Rollouts, learned_from
from exsearch.em.reweigh import reweigh
from exsearch.em.stage_times import StageTimes
from exsearch.em.started_run import StartedRun
from exsearch.engine.models.builtin import model_fingerprint
from exsearch.training.blend import blend
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.start import train


@dataclass(frozen=True)
class MStep:
    """Trains the models of one run folder."""

    run: StartedRun
    times: StageTimes
    engine: EngineKeeper

    def examples(self, newest: Rollouts, explorers: dict[str, Path]) -> tuple[list[Example], list[Contribution]]:
        """Return the examples for the M-step of an iteration, and what each E-step contributes.

        `explorers` maps each iteration up to this one, which comes last, to the model that explored in it. Raises
        UsageError if a journal is from another run, or if the examples include a question of the guard.
        """
        learn = self.run.config.learn
        earlier = [name for name in explorers if name != newest.name and learn.replay != "none"]
        rollouts = [*(self._reweighted(name, newest.name, explorers) for name in earlier), newest]
        if learn.replay != "none" and newest.held is None:  # otherwise just sampled, or already checked
            self._require_own(newest, explorers[newest.name])
        examples, sources = learned_from(rollouts, self.run.experiment.chat, learn)
        refuse_learned(self.run.questions.guard, {example.question_id for example in examples})
        return examples, sources

    def _reweighted(self, earlier: str, name: str, explorers: dict[str, Path]) -> Rollouts:
        """Return the rollouts of an earlier E-step, with the weights for the M-step of `name`."""
        run, folder = self.run, self.run.folder
        rollouts = Rollouts(earlier, folder.trajectories(earlier), folder.weights(earlier))
        self._require_own(rollouts, explorers[earlier])
        if run.config.learn.replay != "ratios":
            return rollouts
        weights = folder.reweighed(name, earlier)
        if weights.exists():
            return replace(rollouts, weights=weights)
        trajectories = list(rollouts.read_trajectories())
        agents, label = self.engine.agents_for(explorers[name]), f"{name} weigh {earlier} again"
        with self.times.of(f"{name}/reweigh"):
            weighed = reweigh(agents, trajectories, run.questions.train, run.config.weigh, weights, label)
        return replace(rollouts, weights=weights, held=trajectories, weighed=weighed)

    def _require_own(self, rollouts: Rollouts, explorer: Path) -> None:
        """Raise UsageError if a journal has trajectories of another model or question file than the run's."""
        question_ids = {question.id for question in self.run.questions.train}
        endpoint = self.run.config.model.engine == "openai"  # an endpoint names its own
        model = "" if endpoint else model_fingerprint(explorer)
        for trajectory in rollouts.read_trajectories():
            name = f"{rollouts.trajectories}: trajectory {trajectory.label}"
            if model and trajectory.model_fingerprint != model:
                raise UsageError(
                    f"{name} is from another model than {explorer}, which explored then; restore the journal"
                )
            if trajectory.question_id not in question_ids:
                raise UsageError(f"{name} has no question in data.train; restore the journal")

    def learn(self, name: str, base: Path, examples: list[Example], target: Path) -> None:
        """Train into the folder `target`: once, or several times with different orders, averaging the weights."""
        config = self.run.config.learn
        orders = [self.run.folder.order(name, number) for number in range(1, config.orders + 1)]
        if config.orders == 1:
            self.train(f"{name}/learn", base, examples, config, target)
        elif not target.exists():
            for number, order in enumerate(orders, start=1):
                seed = self.run.config.seed
                if number > 1:
                    seed = derive_seed(seed, "order", number) >> 1
                self.train(f"{name}/learn-{number}", base, examples, config, order, seed)
            blend([(order, 1 / len(orders)) for order in orders], target, self.run.config.model, config.keep_float32)
        for order in orders:
            remove(order)

    def train(
        self,
        stage: str,
        base: Path,
        examples: list[Example],
        config: TrainingConfig,
        target: Path,
        seed: int | None = None,
    ) -> None:
        """Train once, and log figures under the name of the stage; `seed` defaults to the run's."""
        self.engine.free()
        settings, metrics = self.run.config, self.run.folder.metrics
        seed, label = settings.seed if seed is None else seed, stage.replace("/", " ")
        job = Job.of(base, examples, target, config, settings.model, seed, label)
        with self.times.of(stage):
            train(
                job,
                log=lambda step, figures: metrics.append(stage, step, **figures),
                rewind=lambda step: metrics.rewind(stage, step),
            )
