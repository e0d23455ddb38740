"""How the models of a run do: on the test questions, and on those that choose the best of them."""

import statistics
from pathlib import Path

import msgspec

from exsearch.em.begun import Begun
from exsearch.em.engine_keeper import EngineKeeper
from exsearch.em.guard import Standing
from exsearch.em.guarded import GuardedSteps
from exsearch.em.stage_times import StageTimes
from exsearch.evaluation.baselines import majority
from exsearch.evaluation.bootstrap import answer_probability, figure
from exsearch.evaluation.evaluate import Evaluation, evaluate
from exsearch.evaluation.protocol import make_protocol
from exsearch.evaluation.scores import Figure, Scores, are_of_one_event, has_scores, read_scores
from exsearch.questions.question import Question


class Assessment:
    """Evaluates models of a run; what an earlier start has scored is not scored again, and read once."""

    def __init__(self, begun: Begun, engine: EngineKeeper, times: StageTimes, guard: GuardedSteps | None) -> None:
        """Take the run; with a guard, its questions take the place of those for validation."""
        self._begun, self._engine, self._times, self._guard = begun, engine, times, guard
        self._scores: dict[Path, Scores] = {}
        """Of what was evaluated or read, by folder."""

    def baselines(self) -> None:
        """Score what every later score must beat."""
        begun, spoken = self._begun, self._begun.experiment
        begun.say("Baselines: the untrained model without search, and the most common training answer.")
        own, closed = (
            msgspec.structs.replace(agent, grammar="closed-book") for agent in (begun.config.agent, spoken.config.agent)
        )
        experiment, test = spoken.with_agent(closed), begun.questions.test
        protocol = make_protocol(own, experiment.retriever.fingerprint, test, experiment.grammar)
        evaluation = Evaluation(begun.folder.test_eval("closed-book"), test, protocol)
        with self._times.of("closed-book"):
            if not has_scores(evaluation.folder):
                evaluate(self._engine.agents_of(experiment), [evaluation], "closed-book", "closed-book answers")
                self._engine.free()
        majority(begun.questions.train, Evaluation(begun.folder.test_eval("majority"), test, begun.protocol(test)))

    def assess(self, name: str, explored: list[Question]) -> None:
        """Evaluate a model on the test, validation and first `explored` training questions.

        With a guard, its questions take the place of the last two.
        """
        begun, folder, questions = self._begun, self._begun.folder, self._begun.questions
        sets = {folder.test_eval(name): questions.test}
        if self._guard is None:
            begun.say(f"Evaluate {name}: greedy answers to held-out questions, and to some of the training questions.")
            sets[folder.dev_eval(name)] = questions.dev
            sets[folder.train_eval(name)] = explored[: len(questions.dev)]
        else:
            begun.say(f"Evaluate {name}: answers to the test questions, and to those of the guard.")
            with self._times.of(f"{name}/guard"):
                self.standing(name)
        left = [Evaluation(at, asked, begun.protocol(asked)) for at, asked in sets.items() if not has_scores(at)]
        if left:
            with self._times.of(f"{name}/eval"):
                found = evaluate(self._engine.agents_for(begun.checkpoint(name)), left, name, f"{name} answers")
            self._scores |= {each.folder: scores for each, scores in zip(left, found, strict=True)}
        scores = self.on_test(name)
        em, f1 = scores.figures["em"], scores.figures["f1"]
        begun.say(f"  {name}: exact match {em.mean:.1%} [{em.low:.1%}, {em.high:.1%}], F1 {f1.mean:.1%}, n = {em.n}")

    def standing(self, model: str) -> Standing:
        """Return how a model of the run does on the guard's questions."""
        assert self._guard is not None
        return self._guard.standing(model, self._begun.checkpoint(model))

    def merit(self, name: str) -> float:
        """Return what the best iteration is chosen by: exact match on validation questions, or the guard's figure."""
        return self.validation(name) if self._guard is None else self.standing(name).merit

    def validation(self, name: str) -> float:
        """Return a model's exact match on the questions that choose the best iteration."""
        if self._guard is not None:
            return round(statistics.fmean(self.standing(name).em), 5)
        return self._scored(self._begun.folder.dev_eval(name)).figures["em"].mean

    def on_test(self, name: str) -> Scores:
        """Return a model's scores on the test questions."""
        return self._scored(self._begun.folder.test_eval(name))

    def on_training_questions(self, names: list[str]) -> dict[str, Figure]:
        """Return p(y | x, z) of each model on training questions: some of those learned from, or the guard's.

        There is none of any where an earlier version scored some of them otherwise.
        """
        if self._guard is not None:
            return {name: figure(self.standing(name).probability) for name in names}
        scores = {name: self._scored(self._begun.folder.train_eval(name)) for name in names}
        if not are_of_one_event(list(scores.values())):
            self._begun.say(
                "p(answer) is reported for no model: an earlier version scored some of them with aliases only."
            )
            return {}
        return {name: answer_probability(each) for name, each in scores.items()}

    def _scored(self, folder: Path) -> Scores:
        if folder not in self._scores:
            self._scores[folder] = read_scores(folder)
        return self._scores[folder]
