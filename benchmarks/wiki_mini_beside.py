"""What stands beside the agent in wiki_mini.py: other weightings of its rollouts, other ways to answer."""

from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import msgspec
from wiki_mini_questions import gold

from exsearch.agent.agents import load_agents
from exsearch.agent.experiment import Experiment
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config, GrammarName, TrainingConfig
from exsearch.core.jsonl import read_jsonl
from exsearch.em.learn import weighted_examples
from exsearch.em.loop import EMRun
from exsearch.em.weigh import weigh
from exsearch.evaluation.evaluate import Evaluation, evaluate
from exsearch.evaluation.protocol import check_protocol, make_protocol
from exsearch.evaluation.scores import Scores, has_scores, read_scores
from exsearch.questions.question import Question
from exsearch.training.example import Example, example_from
from exsearch.training.job import Job
from exsearch.training.logged import train_logged

UNTRAINED: tuple[GrammarName, ...] = ("one-shot", "ircot", "self-ask")

Met = list[tuple[Config, list[Question]]]
"""Questions, and the settings with the index that they are of."""


def others(run: EMRun, met: Met, test: list[Question], out: Path) -> Iterator[tuple[str, Scores]]:
    """Yield the names and scores of what stands beside the agent, `met` being the questions that it learned from."""
    for weighting in ("rft", "uniform"):
        model = _reweighted(run, weighting, out / "models" / weighting)
        yield f"iter-1, {weighting}", _scored(run, run.config, model, test, out / "eval" / weighting)
    model = _one_shot(run, met, out / "models" / "one-shot")
    way = _with_grammar(run.config, "one-shot")
    yield "one-shot, fine-tuned", _scored(run, way, model, test, out / "eval" / "one-shot-tuned")
    for grammar in UNTRAINED:
        yield grammar, _scored(run, _with_grammar(run.config, grammar), run.base, test, out / "eval" / grammar)


def _with_grammar(config: Config, grammar: GrammarName) -> Config:
    """Return the settings for another way to answer, with the same budgets."""
    return msgspec.structs.replace(config, agent=msgspec.structs.replace(config.agent, grammar=grammar))


def _scored(run: EMRun, config: Config, model: Path, questions: list[Question], folder: Path) -> Scores:
    """Return the scores of a model's greedy answers, those of an earlier start if they are there."""
    protocol = make_protocol(config.agent, run.retriever.fingerprint, questions)
    if has_scores(folder):
        check_protocol(folder, protocol)
        return read_scores(folder)
    with closing(load_agents(Experiment(config, retriever=run.retriever).with_model(model))) as agents:
        [scores] = evaluate(agents, [Evaluation(folder, questions, protocol)], folder.name, folder.name)
    return scores


def _reweighted(run: EMRun, weighting: str, out: Path) -> Path:
    """Return what the warm-up model becomes when it learns from the first iteration's rollouts by another weighting.

    The gate stays, so that all weightings learn from the same questions.
    """
    settings = msgspec.structs.replace(run.config.weigh, weighting=weighting)
    trajectories = list(read_jsonl(run.folder.trajectories("iter-1"), Trajectory))
    weights = weigh(trajectories, run.questions_of(1), settings)
    examples = weighted_examples(trajectories, weights, run.chat, run.config.learn)
    examples += run.to_mix_in()
    return _learned(run, run.folder.checkpoint("warmup"), examples, run.config.learn, out)


def _one_shot(run: EMRun, met: Met, out: Path) -> Path:
    """Return the model that learns to answer the questions the agent learned from, from one search each."""
    found = [gold(_with_grammar(config, "one-shot"), questions) for config, questions in met]
    examples = [example_from(trajectory, 1.0, None, run.chat) for trajectory in chain(*found)]
    return _learned(run, run.base, examples, run.config.warmup, out)


def _learned(run: EMRun, base: Path, examples: list[Example], settings: TrainingConfig, out: Path) -> Path:
    """Fine-tune as the run does; return the checkpoint."""
    config = run.config
    job = Job.of(base, examples, out, settings, config.model, config.seed, out.name)
    train_logged(job, config.tracking)
    return out
