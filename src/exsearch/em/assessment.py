"""Evaluates the models of a run, on the test questions and on those that select the best model."""

import statistics
from pathlib import Path

import msgspec

from exsearch.em.engine_keeper import EngineKeeper
from exsearch.em.guard import Standing
from exsearch.em.guarded import GuardedSteps
from exsearch.em.stage_times import StageTimes
from exsearch.em.started_run import StartedRun
from exsearch.evaluation.baselines import majority
from exsearch.evaluation.bootstrap import answer_probability, figure
from exsearch.evaluation.evaluate import Evaluation, evaluate
from exsearch.evaluation.protocol import make_protocol
from exsearch.evaluation.scores import Figure, Scores, are_of_one_event, has_scores, read_scores
from exsearch.questions.question import Question


class Assessment:
    """Evaluates models of a run. Scores of an earlier start are read, once, and not computed again."""

    def __init__(self, run: StartedRun, engine: EngineKeeper, times: StageTimes, guard: GuardedSteps | None) -> None:
        """Set up for a run; with a guard, its questions replace the validation questions."""
        self._run, self._engine, self._times, self._guard = run, engine, times, guard
        self._scores: dict[Path, Scores] = {}
        """Scores computed or read so far, by folder."""

    def baselines(self) -> None:
        """Score what every later score must beat."""
        run, experiment = self._run, self._run.experiment
        run.say("Baselines: the untrained model without search, and the most common training answer.")
        recorded, closed = (
            msgspec.structs.replace(agent, grammar="closed-book")
            for agent in (run.config.agent, experiment.config.agent)
        )
        experiment, test = experiment.with_agent(closed), run.questions.test
        protocol = make_protocol(recorded, experiment.retriever.fingerprint, test, experiment.grammar)
        evaluation = Evaluation(run.folder.test_eval("closed-book"), test, protocol)
        with self._times.of("closed-book"):
            if not has_scores(evaluation.folder):
                evaluate(self._engine.agents_of(experiment), [evaluation], "closed-book", "closed-book answers")
                self._engine.free()
        majority(run.questions.train, Evaluation(run.folder.test_eval("majority"), test, run.protocol(test)))

    def assess(self, name: str, explored: list[Question]) -> None:
        """Evaluate a model on the test, validation and first `explored` training questions.

        With a guard, its questions replace the last two.
        """
        run, folder, questions = self._run, self._run.folder, self._run.questions
        sets = {folder.test_eval(name): questions.test}
        if self._guard is None:
            run.say(f"Evaluate {name}: greedy answers to held-out questions, and to some of the training questions.")
            sets[folder.dev_eval(name)] = questions.dev
            sets[folder.train_eval(name)] = explored[: len(questions.dev)]
        else:
            run.say(f"Evaluate {name}: answers to the test questions, and to those of the guard.")
            with self._times.of(f"{name}/guard"):
                self.standing(name)
        pending = [Evaluation(at, group, run.protocol(group)) for at, group in sets.items() if not has_scores(at)]
        if pending:
            with self._times.of(f"{name}/eval"):
                results = evaluate(self._engine.agents_for(run.checkpoint(name)), pending, name, f"{name} answers")
            self._scores |= {each.folder: scores for each, scores in zip(pending, results, strict=True)}
        scores = self.on_test(name)
        em, f1 = scores.figures["em"], scores.figures["f1"]
        run.say(f"  {name}: exact match {em.mean:.1%} [{em.low:.1%}, {em.high:.1%}], F1 {f1.mean:.1%}, n = {em.n}")

    def standing(self, model: str) -> Standing:
        """Return a model's figures on the guard's questions."""
        assert self._guard is not None
        return self._guard.standing(model, self._run.checkpoint(model))

    def merit(self, name: str) -> float:
        """Return the figure that selects the best iteration: validation exact match, or the guard's figure."""
        return self.validation(name) if self._guard is None else self.standing(name).merit

    def validation(self, name: str) -> float:
        """Return a model's exact match on the questions that select the best iteration."""
        if self._guard is not None:
            return round(statistics.fmean(self.standing(name).em), 5)
        return self._scored(self._run.folder.dev_eval(name)).figures["em"].mean

    def on_test(self, name: str) -> Scores:
        """Return a model's scores on the test questions."""
        return self._scored(self._run.folder.test_eval(name))

    def on_training_questions(self, names: list[str]) -> dict[str, Figure]:
        """Return p(y | x, z) of each model on training questions: some of those learned from, or the guard's.

        Empty if an earlier version scored some of the models differently, since their figures are not comparable.
        """
        if self._guard is not None:
            return {name: figure(self.standing(name).probability) for name in names}
        scores = {name: self._scored(self._run.folder.train_eval(name)) for name in names}
        if not are_of_one_event(list(scores.values())):
            self._run.say("p(answer) is not reported: an earlier version scored some of the models with aliases only.")
            return {}
        return {name: answer_probability(each) for name, each in scores.items()}

    def _scored(self, folder: Path) -> Scores:
        if folder not in self._scores:
            self._scores[folder] = read_scores(folder)
        return self._scores[folder]
