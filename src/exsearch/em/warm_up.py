"""The warm-up of a run: gold trajectories, and the examples made from them."""

from exsearch.agent.trajectory import Trajectory
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.em.started_run import StartedRun
from exsearch.training.example import Example, example_from
from exsearch.warmup.write import gold_trajectories, within_context


class WarmUp:
    """Makes the gold trajectories of a run, or takes those of `data.warmup`, and writes them to its folder."""

    def __init__(self, run: StartedRun) -> None:
        """Keep the run; nothing is written yet."""
        self._run = run
        self._gold: list[Trajectory] | None = None

    def make(self) -> list[Trajectory]:
        """Write the gold trajectories to the run folder and return them."""
        self._gold = self._run.ready or self._of_annotations()
        write_jsonl(self._run.folder.warmup_trajectories, self._gold, sealed=True)
        return self._gold

    def examples(self) -> list[Example]:
        """Return the gold trajectories as examples of weight 1."""
        gold = self._gold
        if gold is None:
            gold = list(read_jsonl(self._run.folder.warmup_trajectories, Trajectory))
        return [example_from(trajectory, 1.0, None, self._run.experiment.chat) for trajectory in gold]

    def _of_annotations(self) -> list[Trajectory]:
        run, experiment = self._run, self._run.experiment
        questions = run.questions.train[: run.config.warmup.questions]
        agent = within_context(run.config.agent, experiment.model)
        return gold_trajectories(questions, experiment.retriever, experiment.chat, agent, run.gold_passages)
