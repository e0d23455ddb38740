"""The M-step of a run: learn from the rollouts of its E-step, and of earlier ones if the settings say so."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exsearch.agent.agents import Agents
from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config, TrainingConfig
from exsearch.core.atomic import remove
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.core.seeds import derive_seed
from exsearch.em.questions import RunQuestions, refuse_learned
from exsearch.em.replay import Rollouts, Source, learned_from
from exsearch.em.reweigh import reweigh
from exsearch.em.stage_times import StageTimes
from exsearch.engine.builtin import model_fingerprint
from exsearch.runs.folder import RunFolder
from exsearch.training.blend import blend
from exsearch.training.example import Example
from exsearch.training.start import train


@dataclass(frozen=True)
class MStep:
    """Trains the models of one run folder."""

    config: Config
    folder: RunFolder
    questions: RunQuestions
    chat: ChatFormat
    times: StageTimes
    agents_for: Callable[[Path], Agents]
    """Loads a checkpoint."""
    free_engine: Callable[[], None]
    """Frees the engine's memory before the trainer needs it, since both may share one device."""
    say: Callable[[str], None]

    def examples(self, name: str, explorers: dict[str, Path]) -> tuple[list[Example], list[Source]]:
        """Return the examples for the M-step of an iteration, and what each E-step contributes.

        `explorers` maps each iteration up to this one, which comes last, to the model that explored in it. Raises
        UsageError
        if a journal is not from this run, or if a question of the guard is among those learned from.
        """
        replayed = [earlier for earlier in explorers if earlier != name and self.config.learn.replay != "none"]
        rollouts = [self._rollouts(name, earlier, explorers) for earlier in [*replayed, name]]
        examples, sources = learned_from(rollouts, self.chat, self.config.learn)
        refuse_learned(self.questions.guard, {example.question_id for example in examples})
        return examples, sources

    def _rollouts(self, name: str, earlier: str, explorers: dict[str, Path]) -> Rollouts:
        """Return the rollouts of an E-step, with the weights to use in the M-step of `name`."""
        journal, weights = self.folder.trajectories(earlier), self.folder.weights(earlier)
        if self.config.learn.replay != "none":
            self._require_own(journal, explorers[earlier])
        if earlier != name and self.config.learn.replay == "ratios":
            weights = self.folder.reweighed(name, earlier)
            if not weights.exists():
                trajectories = list(read_jsonl(journal, Trajectory))
                agents, label = self.agents_for(explorers[name]), f"{name} weigh {earlier} again"
                with self.times.of(f"{name}/reweigh"):
                    reweigh(agents, trajectories, self.questions.train, self.config.weigh, weights, label)
        return Rollouts(earlier, journal, weights)

    def _require_own(self, journal: Path, explorer: Path) -> None:
        """Raise UsageError if a journal has trajectories of another model or question file than the run's."""
        question_ids = {question.id for question in self.questions.train}
        model = "" if self.config.model.engine == "openai" else model_fingerprint(explorer)  # an endpoint names its own
        for trajectory in read_jsonl(journal, Trajectory):
            name = f"{journal}: trajectory {trajectory.label}"
            if model and trajectory.model_fingerprint != model:
                raise UsageError(
                    f"{name} is from another model than {explorer}, which explored then; restore the journal"
                )
            if trajectory.question_id not in question_ids:
                raise UsageError(f"{name} has no question in data.train; restore the journal")

    def learn(self, name: str, base: Path, examples: list[Example], target: Path) -> None:
        """Train into the folder `target`: once, or several times with different orders, averaging the weights."""
        config = self.config.learn
        orders = [self.folder.order(name, number) for number in range(1, config.orders + 1)]
        if config.orders == 1:
            self.train(f"{name}/learn", base, examples, config, target)
        elif not target.exists():
            for number, order in enumerate(orders, start=1):
                seed = self.config.seed if number == 1 else derive_seed(self.config.seed, "order", number) >> 1
                self.train(f"{name}/learn-{number}", base, examples, config, order, seed)
            blend([(order, 1 / len(orders)) for order in orders], target, self.config.model, config.keep_float32)
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
        self.free_engine()
        metrics = self.folder.metrics
        with self.times.of(stage):
            train(
                base,
                examples,
                target,
                config,
                self.config.model,
                self.config.seed if seed is None else seed,
                label=stage.replace("/", " "),
                log=lambda step, figures: metrics.append(stage, step, **figures),
                rewind=lambda step: metrics.rewind(stage, step),
            )
