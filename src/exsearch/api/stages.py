"""The stages of the EM loop as calls on values. Long ones leave files, from which the same call resumes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from exsearch.agent.agents import Agents
from exsearch.agent.asking import SearchAgent
from exsearch.agent.chat import ChatFormat
from exsearch.agent.journal import check_failures
from exsearch.agent.trajectory import Trajectory
from exsearch.api.indexes import Index, opened
from exsearch.api.models import Model, of_model
from exsearch.config import AgentConfig, ExploreConfig, LearnConfig, TrackingConfig, WarmupConfig, checked
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.core.locks import sole_writer
from exsearch.core.messages import logger
from exsearch.corpus.store import Corpus
from exsearch.em.explore import explore as sample
from exsearch.em.learn import refuse_unused, weighted_examples
from exsearch.em.replay import JournalChecks
from exsearch.engine.models.builtin import resolve_model
from exsearch.evaluation.compare import Comparison
from exsearch.evaluation.compare import compare as compare_evaluations
from exsearch.evaluation.evaluate import Evaluation
from exsearch.evaluation.evaluate import evaluate as answer_all
from exsearch.evaluation.folder import QUESTIONS, Evaluated
from exsearch.evaluation.protocol import make_protocol
from exsearch.questions.question import Question, sound
from exsearch.runs.evaluations import read_evaluation
from exsearch.runs.weighted import Weighted
from exsearch.training.example import example_from
from exsearch.training.job import Job
from exsearch.training.logged import train_logged
from exsearch.warmup.plan import GoldPassages
from exsearch.warmup.write import gold_trajectories as write_gold
from exsearch.warmup.write import within_context


def gold_trajectories(
    model: Model,
    questions: Iterable[Question],
    index: Index,
    config: WarmupConfig = WarmupConfig(),
    *,
    agent: AgentConfig = AgentConfig(),
    corpus: Corpus | None = None,
    seed: int = 0,
) -> list[Trajectory]:
    """Return the annotations of questions as gold trajectories, from which a model learns its grammar.

    They are written with the model's tokens and the passages that the index returns. Questions without a decomposition,
    or whose passages the index does not return, are skipped: `exsearch data warmup` says which, and why. `config`
    decides what is recorded from a passage (all `questions` count, whatever `config.questions` is), `agent` the grammar
    and the budgets. With `gold = "insert"`, missing passages are inserted from `corpus`, at ranks that depend on
    `seed`. Raises UsageError for invalid questions.

    >>> gold = xs.gold_trajectories(model, world.questions("train", 4, hops=[1]), index)
    >>> gold[0].answer is not None, len(gold[0].steps)
    (True, 1)
    """
    valid = _sound(questions)
    folder = resolve_model(of_model(model).path)
    chat = ChatFormat.load(folder, checked(agent, AgentConfig))
    passages = GoldPassages(corpus, checked(config, WarmupConfig), seed)
    return write_gold(valid, opened(index), chat, within_context(agent, folder), passages)


def explore(
    agent: Agents,
    questions: Iterable[Question],
    out: str | Path,
    config: ExploreConfig = ExploreConfig(),
    *,
    seed: int = 0,
) -> list[Trajectory]:
    """E-step, first half: sample `config.samples` trajectories of each question, scored by its gold answers.

    All `questions` are explored, whatever `config.questions` is. The trajectories are written to the file `out`, one
    JSON line each as soon as it has ended, and the same call continues with existing ones. Raises UsageError if `out`
    has trajectories of another model, index, question, setting or seed, and ExSearchError if the retriever or engine
    failed for more than a tenth.

    >>> rollouts = xs.explore(agent, questions, "work/rollouts.jsonl", xs.ExploreConfig(samples=2))
    >>> [(each.question_id, each.sample, each.answer) for each in rollouts]
    [('q1', 0, 'Ada Quill'), ('q1', 1, 'Ada Quill')]
    """
    valid = _sound(questions)
    trajectories = sample(agent, valid, checked(config, ExploreConfig), seed, Path(out), Path(out).stem)
    if failures := check_failures(trajectories):
        logger.warning(f"{out}: {failures}. They get weight 0")
    return trajectories


def learn(
    model: Model,
    trajectories: Sequence[Trajectory],
    out: str | Path,
    weights: Sequence[Weighted] | None = None,
    config: WarmupConfig | LearnConfig = LearnConfig(),
    *,
    agent: AgentConfig = AgentConfig(),
    seed: int = 0,
) -> Path:
    """M-step: fine-tune a model on trajectories, each by its weight; return the checkpoint folder, which is `out`.

    Without weights, all count alike, as for a warm-up on gold trajectories. Trajectories of several E-steps are learned
    together if these asked different questions; `replay`, `orders` and `warmup_mix` are for `train` alone. `agent` has
    the settings that the trajectories were made with. Figures go to `out`.metrics.jsonl. An existing checkpoint is not
    changed; the same call resumes an interrupted training. Raises UsageError if `out` is of other inputs, and for
    trajectories without their weights or of another model.

    >>> weights = xs.weigh(rollouts, questions)
    >>> xs.learn(model, rollouts, "work/learned", weights, xs.LearnConfig(epochs=1)).name
    'learned'
    """
    settings, folder = of_model(model), Path(out)
    base = resolve_model(settings.path)
    chat = ChatFormat.load(base, checked(agent, AgentConfig))
    checked(config, WarmupConfig, LearnConfig)
    if isinstance(config, LearnConfig):
        refuse_unused(config, "replay", "orders", "warmup_mix")
    own = JournalChecks(chat).passing(Path("trajectories"), trajectories)
    if weights is None:
        examples = [example_from(_answered(each), 1.0, None, chat) for each in own]
    elif isinstance(config, LearnConfig):
        examples = weighted_examples(own, weights, chat, config)
    else:
        raise UsageError("weights need a LearnConfig; in a warm-up, all weights are 1")
    if not examples:
        raise UsageError("nothing to learn from: no trajectory has a weight of at least learn.min_weight")
    label = "learn" if isinstance(config, LearnConfig) else "warmup"
    with sole_writer(folder):
        train_logged(Job.of(base, examples, folder, config, settings, seed, label), TrackingConfig())
    return folder


def evaluate(agent: SearchAgent, questions: Iterable[Question], out: str | Path) -> Evaluated:
    """Answer questions greedily and score the answers; return the figures with their intervals, and each answer.

    The folder `out` is then one like `exsearch eval` writes, without the report, which `exsearch view` adds. Its name
    becomes that of the evaluation. Existing answers are not repeated. Raises UsageError if `out` has an evaluation of
    other questions or under other conditions, and ExSearchError if the retriever or engine failed, since failed
    requests would count as wrong answers.

    >>> evaluation = xs.evaluate(agent, questions, "work/eval")
    >>> print(evaluation.figures["em"])
    1.000 [1.000, 1.000], n = 1
    >>> evaluation.answers
    {'q1': 'Ada Quill'}
    """
    valid, folder = _sound(questions), Path(out)
    protocol = make_protocol(agent.config, agent.index_fingerprint, valid, agent.grammar)
    answer_all(agent, [Evaluation(folder, valid, protocol)], folder.name, folder.name)
    write_jsonl(folder / QUESTIONS, valid)
    return read_evaluation(folder)


def compare(
    a: Evaluated | str | Path, b: Evaluated | str | Path, metric: str = "em", *, across_protocols: bool = False
) -> Comparison:
    """Compare evaluation b with a on the same questions: paired differences, and which questions they come from.

    Each may be given as its folder. `metric` decides which questions are won and lost. Raises UsageError for
    evaluations under different conditions, unless `across_protocols`, and for a metric that they do not have.

    >>> evaluation = xs.evaluate(agent, questions, "work/eval")
    >>> comparison = xs.compare(evaluation, "work/eval")
    >>> print(comparison["em"].difference)
    0.000 [0.000, 0.000], n = 1
    """
    before, after = (each if isinstance(each, Evaluated) else read_evaluation(Path(each)) for each in (a, b))
    return compare_evaluations(before, after, metric, across_protocols)


def _sound(questions: Iterable[Question]) -> list[Question]:
    return list(sound(questions, "questions"))


def _answered(trajectory: Trajectory) -> Trajectory:
    if trajectory.answer_start is None:
        name = f"{trajectory.label}"
        raise UsageError(
            f"trajectory {name} has no answer to learn; weigh explored trajectories, and pass their weights"
        )
    return trajectory
