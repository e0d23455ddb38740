"""Takes, shortens or refuses the steps of a run by its guard, and records the decisions in the run folder."""

from pathlib import Path

from exsearch.agent.rollout import Draw
from exsearch.config import Config
from exsearch.core.atomic import remove, replace_atomically
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.seeds import derive_seed
from exsearch.em.engine_keeper import EngineKeeper
from exsearch.em.guard import PARTS, Decision, Guard, Standing
from exsearch.questions.question import Question
from exsearch.runs.layout import RunLayout
from exsearch.training.blend import blend


class GuardedSteps:
    """Decides on steps, and records each decision, so that a resumed run does not decide again."""

    def __init__(self, config: Config, folder: RunLayout, questions: list[Question], engine: EngineKeeper) -> None:
        """Set up the guard from the settings."""
        self._config, self._folder, self._engine = config, folder, engine
        self._decisions: dict[str, Decision] = {}
        """Decisions made or read so far, by iteration."""
        greedy = config.loop.guard_samples == 0
        draw = Draw(
            seed=derive_seed(config.seed, "guard") >> 1,
            temperature=0.0 if greedy else config.explore.temperature,
            top_p=1.0 if greedy else config.explore.top_p,
            score_answers=True,
        )
        self._guard = Guard(questions, folder.guard, draw, config.loop.guard_samples or 1, engine.agents_for)

    def standing(self, model: str, checkpoint: Path) -> Standing:
        """Return the figures of a model of the run, `warmup` or an iteration, on the guard's questions."""
        return self._guard.standing(self._guard_name(model), checkpoint)

    def _guard_name(self, model: str) -> str:
        """Return the guard's name for a model: for an iteration, the name of the share of its step that was taken."""
        decision = self.decision(model)
        return decision.taken.name if decision and decision.taken else model

    def decision(self, name: str) -> Decision | None:
        """Return the decision on the step of an iteration; None if there is none yet."""
        file = self._folder.guard_decision(name)
        if name not in self._decisions and file.exists():
            self._decisions[name] = read_json(file, Decision)
        return self._decisions.get(name)

    def is_settled(self, name: str) -> bool:
        """Return whether the step of an iteration is decided on, and its checkpoint, if it has one, is there."""
        decision = self.decision(name)
        if decision is None or decision.taken is None:
            return decision is not None
        part = self._folder.part(name, PARTS[decision.taken.share])
        return part.exists() or self._folder.checkpoint(name).exists()

    def decide(self, name: str, previous: str, old: Path) -> Decision:
        """Decide on the step from the model `previous`, the checkpoint `old`, to the one trained in an iteration.

        The share that is taken becomes the iteration's checkpoint. A decision made before is not made again; only its
        checkpoint is moved into place, or made again from the whole step if it was deleted.
        """
        decision = self.decision(name)
        if decision is None:
            before = self._guard_name(previous)
            decision = self._guard.decide(name, before, old, lambda share: self._part(name, old, share))
            write_json(self._folder.guard_decision(name), decision)
            self._decisions[name] = decision
        if decision.taken:
            if not self.is_settled(name):
                self._part(name, old, decision.taken.share)
            part = self._folder.part(name, PARTS[decision.taken.share])
            if part.exists():
                replace_atomically(part, self._folder.checkpoint(name))
        for share in PARTS:
            remove(self._folder.part(name, PARTS[share]))
        return decision

    def _part(self, name: str, old: Path, share: float) -> Path:
        """Return the model at a share of an iteration's step: weights interpolated between the two checkpoints."""
        part, whole = self._folder.part(name, PARTS[share]), self._folder.part(name, PARTS[1.0])
        if share < 1:
            self._engine.free()
            blend([(old, 1 - share), (whole, share)], part, self._config.model, self._config.learn.keep_float32)
        return part
