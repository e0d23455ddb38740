"""The warm-up of a run: gold trajectories, and the examples made of them."""

from exsearch.agent.trajectory import Trajectory
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.em.begun import Begun
from exsearch.training.example import Example, example_from
from exsearch.warmup.write import gold_trajectories, within_context


class WarmUp:
    """Makes the gold trajectories of a run, or has them ready, and keeps them in its folder."""

    def __init__(self, begun: Begun) -> None:
        """Take the run; nothing is made yet."""
        self._begun = begun
        self._gold: list[Trajectory] | None = None

    def make(self) -> list[Trajectory]:
        """Return the gold trajectories, which are then in the run folder, too."""
        self._gold = self._begun.ready or self._of_annotations()
        write_jsonl(self._begun.folder.warmup_trajectories, self._gold)
        return self._gold

    def examples(self) -> list[Example]:
        """Return them as examples, each of weight 1."""
        gold = self._gold
        if gold is None:
            gold = list(read_jsonl(self._begun.folder.warmup_trajectories, Trajectory))
        return [example_from(trajectory, 1.0, None, self._begun.experiment.chat) for trajectory in gold]

    def _of_annotations(self) -> list[Trajectory]:
        begun, experiment = self._begun, self._begun.experiment
        questions = begun.questions.train[: begun.config.warmup.questions]
        agent = within_context(begun.config.agent, experiment.model)
        return gold_trajectories(questions, experiment.retriever, experiment.chat, agent, begun.gold_passages)
