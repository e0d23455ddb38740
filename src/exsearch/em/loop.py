"""The EM loop: warm up, then explore, weigh and learn until validation no longer improves.

Reads top to bottom as the method of docs/explanation/method.md. Every stage leaves a file or folder in the run folder
and is skipped if that exists, so running the same command again resumes an interrupted run.
"""

from pathlib import Path

from exsearch.agent.chat import ChatFormat
from exsearch.agent.journal import check_failures
from exsearch.config import Config
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.core.seeds import derive_seed
from exsearch.em.assessment import Assessment
from exsearch.em.engine_keeper import EngineKeeper
from exsearch.em.explore import explore
from exsearch.em.guard import PARTS, Decision
from exsearch.em.guarded import GuardedSteps
from exsearch.em.m_step import MStep
from exsearch.em.replay import Contribution, Rollouts
from exsearch.em.stage_times import StageTimes
from exsearch.em.started_run import Say, begin, warms_up
from exsearch.em.summary import iteration_of, write_summary
from exsearch.em.warm_up import WarmUp
from exsearch.em.weigh import summarise, weigh
from exsearch.evaluation.protocol import Protocol
from exsearch.questions.question import Question
from exsearch.retrieval.base import Retriever
from exsearch.runs.records import Iteration, RunSummary
from exsearch.runs.weighted import Weighted
from exsearch.training.example import Example


class EMRun:
    """One run of the EM loop in one run folder: the order of its stages."""

    def __init__(self, config: Config, root: Path, say: Say) -> None:
        """Check the inputs and claim the folder. Raises UsageError before any work is done."""
        self._run = run = begin(config, root, say)
        self.config, self.folder, self.say = run.config, run.folder, say
        self._refused: list[bool] = []
        """Whether the guard refused the step of each iteration so far."""
        self._times = StageTimes(run.folder.metrics)
        self._engine = EngineKeeper(run.experiment)
        self._warm_up = WarmUp(run)
        self._m_step = MStep(run, self._times, self._engine)
        questions = run.questions.guard
        self._guard = GuardedSteps(run.config, run.folder, questions, self._engine) if questions else None
        self._assessment = Assessment(run, self._engine, self._times, self._guard)

    @property
    def base(self) -> Path:
        """Return the folder of the model that the run starts with."""
        return self._run.experiment.model

    @property
    def chat(self) -> ChatFormat:
        """Return the format of conversations."""
        return self._run.experiment.chat

    @property
    def retriever(self) -> Retriever:
        """Return the opened index."""
        return self._run.experiment.retriever

    @property
    def protocol(self) -> Protocol:
        """Return the conditions that scores on the test questions depend on."""
        return self._run.protocol(self._run.questions.test)

    def run(self) -> RunSummary:
        """Run every unfinished stage. Return the summary, which is also written to the folder."""
        try:
            return self._stages()
        finally:
            self.close()

    def close(self) -> None:
        """Free the loaded model, and flush the trackers."""
        self._engine.free()
        self.folder.metrics.close()

    def _stages(self) -> RunSummary:
        self.baselines()
        self.warm_up()
        models, explorers = ["warmup"], dict[str, Path]()
        self.assess("warmup")
        best, stale = self._assessment.merit("warmup"), 0
        iterations: list[Iteration] = []
        for number in range(1, self.config.loop.iterations + 1):
            name = f"iter-{number}"
            explorers[name] = self._run.checkpoint(models[-1])
            rollouts = self.e_step(name, number, models[-1])
            weights = summarise(rollouts.read_weights())
            sources = self.m_step(rollouts, explorers)
            del rollouts  # frees the memory for the next ones
            decision = self.guarded(name, models[-1])
            if decision is None or decision.taken:
                models.append(name)
                self.assess(name)
            validation = self._assessment.validation(models[-1])
            iterations.append(iteration_of(name, weights, sources, decision, validation))
            merit = self._assessment.merit(models[-1])
            stale = 0 if merit > best else stale + 1
            best = max(best, merit)
            if stale == self.config.loop.patience:
                self.say(f"Validation has not improved for {stale} iterations: stopping.")
                break
        return write_summary(self._run, self._assessment, models, iterations, self._times.total())

    def baselines(self) -> None:
        """Score what every later score must beat."""
        self._assessment.baselines()

    def warm_up(self) -> None:
        """Teach the grammar by supervised fine-tuning on gold trajectories."""
        if not warms_up(self.config):
            self.say("Warm-up: skipped, the model is assumed to know the grammar.")
            return
        gold = self._warm_up.make()
        source = self.config.data.warmup or f"from {self.config.warmup.questions} questions"
        self.say(f"Warm-up: learn the grammar from {len(gold)} gold trajectories ({source}).")
        checkpoint = self.folder.checkpoint("warmup")
        self._m_step.train("warmup/learn", self.base, self._warm_up.examples(), self.config.warmup, checkpoint)

    def e_step(self, name: str, number: int, previous: str) -> Rollouts:
        """Explore with the model of `previous`, then weigh."""
        journal, path = self.folder.trajectories(name), self.folder.weights(name)
        if path.exists():
            return Rollouts(name, journal, path, weighed=list(read_jsonl(path, Weighted)))
        questions, k = self.questions_of(number), self.config.explore.samples
        self.say(f"E-step of {name}: explore {len(questions)} training questions, {k} trajectories each.")
        with self._times.of(f"{name}/explore"):
            trajectories = explore(
                self._engine.agents_for(self._run.checkpoint(previous)),
                questions,
                self.config.explore,
                derive_seed(self.config.seed, name) >> 1,
                journal,
                label=f"{name} explore",
            )
        if message := check_failures(trajectories):
            self.say(f"{message}. They get weight 0.")
        weights = weigh(trajectories, questions, self.config.weigh)
        write_jsonl(path, weights, sealed=True)
        return Rollouts(name, journal, path, trajectories, weights)

    def m_step(self, rollouts: Rollouts, explorers: dict[str, Path]) -> list[Contribution]:
        """Learn from the weighted trajectories; return what each E-step contributes.

        `explorers` maps each iteration up to this one, which comes last, to the model that explored in it.
        """
        name = rollouts.name
        examples, sources = self._m_step.examples(rollouts, explorers)
        if self._guard is not None and self._guard.is_settled(name):
            return sources
        detail = f" ({', '.join(f'{each.examples} of {each.name}' for each in sources)})" if len(sources) > 1 else ""
        self.say(f"M-step of {name}: training on {len(examples)} weighted trajectories{detail}.")
        target = self.folder.checkpoint(name) if self._guard is None else self.folder.part(name, PARTS[1.0])
        self._m_step.learn(name, explorers[name], examples + self.to_mix_in(), target)
        return sources

    def guarded(self, name: str, previous: str) -> Decision | None:
        """Keep as much of a step as the guard allows. Return its decision; None without a guard."""
        if self._guard is None:
            self._refused.append(False)
            return None
        with self._times.of(f"{name}/guard"):
            decision = self._guard.decide(name, previous, self._run.checkpoint(previous))
        self._refused.append(decision.taken is None)
        self.say(f"Guard: {decision.sentence}.")
        return decision

    def to_mix_in(self) -> list[Example]:
        """Return the warm-up's examples that are added to each M-step."""
        mixed = self.config.learn.warmup_mix
        return self._warm_up.examples()[:mixed] if mixed else []

    def questions_of(self, number: int) -> list[Question]:
        """Return the questions of an iteration: the next ones after the warm-up's, wrapping around."""
        return self._run.questions.to_explore(number, self.config.explore.questions, self._refused[: number - 1])

    def assess(self, name: str) -> None:
        """Evaluate a model on the test, validation and first explored training questions."""
        self._assessment.assess(name, self.questions_of(1))
