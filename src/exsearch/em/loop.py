"""The EM loop: warm up, then explore, weigh and learn until validation no longer improves.

Reads top to bottom as the method of DESIGN.md section 2. Every stage leaves a file or folder in the run folder and
is skipped when that is there, so the same command continues a run that was cut off.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.agent.journal import Agents, few_failed
from exsearch.agent.loading import as_begun, load_agents, load_retriever
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config, TrainingConfig, load_config
from exsearch.data.question import Question, read_questions
from exsearch.em.explore import explore
from exsearch.em.gold import GoldPassages
from exsearch.em.learn import weighted_examples
from exsearch.em.run_folder import Comparison, Iteration, RunFolder, RunSummary
from exsearch.em.warmup import gold_trajectories, read_warmup, within_context
from exsearch.em.weigh import WeightSummary, summarise, weigh
from exsearch.em.weighted import Weighted
from exsearch.engine.builtin import model_fingerprint, resolve_model
from exsearch.engine.load import pick_dtype
from exsearch.engine.sampling import derive_seed
from exsearch.errors import UsageError
from exsearch.evaluation.baselines import majority
from exsearch.evaluation.bootstrap import answer_probability, paired_difference
from exsearch.evaluation.evaluate import TRAJECTORIES, Evaluation, evaluate
from exsearch.evaluation.protocol import Protocol, make_protocol
from exsearch.evaluation.scores import has_scores, read_scores
from exsearch.files import fingerprint, read_jsonl, write_json, write_jsonl
from exsearch.memory import give_back_memory
from exsearch.training.example import Example, example_from
from exsearch.training.trainer import refuse_adapter, require_length, train
from exsearch.training.zero_settings import zero_fingerprint

Say = Callable[[str], None]


class EMRun:
    """One run of the EM loop in one run folder."""

    def __init__(self, config: Config, root: Path, say: Say) -> None:
        """Check the inputs and claim the folder; raises UsageError before any work is done."""
        self.folder = RunFolder(root, config.tracking)
        config, earlier = self.folder.as_begun(config)
        if earlier:
            say(earlier)
        self.config, self.say = config, say
        data = config.data
        for key in ("index", "train", "dev", "test"):
            if not getattr(data, key):
                raise UsageError(f"the config names no data.{key}")
        _check_scores(config)
        refuse_adapter(config.model)
        self.retriever = load_retriever(config, data.index)
        self.train_questions = read_questions(Path(data.train), data.train_limit)
        self.dev_questions = read_questions(Path(data.dev), data.dev_limit)
        self.test_questions = read_questions(Path(data.test), data.test_limit)
        self.gold_passages = GoldPassages.of_index(data.index, config)
        self.pool = self._to_explore()
        if not self.pool:
            raise UsageError(
                f"{data.train}: {len(self.train_questions)} questions, and the warm-up takes all of them "
                f"({'data.warmup' if data.warmup else 'warmup.questions'}): none are left to explore"
            )
        say(f"Model: {config.model.path}; what is not a folder here is made or fetched once, into your cache folder.")
        self.base = resolve_model(config.model.path)
        self.config, self._spoken = self._as_begun(config)
        self.chat = ChatFormat.load(self.base, self._spoken.agent)
        if data.warmup:
            ready = read_warmup(Path(data.warmup), self.chat)  # to refuse now what it would refuse after the baselines
            require_length(self.base, max(len(trajectory.token_ids) for trajectory in ready))
        self.protocol = self._protocol(self.test_questions)
        splits = {"train": self.train_questions, "dev": self.dev_questions, "test": self.test_questions}
        contents = contents_of(config, self.base)
        self.folder.check(self.config, contents)
        self.folder.claim_inputs(self.protocol, splits)
        if changed := self.folder.claim(self.config, contents):
            say(f"Continued with other settings, which change no result: {'; '.join(map(str, changed))}.")
        self._agents: Agents | None = None
        self._loaded: Path | None = None

    def _as_begun(self, config: Config) -> tuple[Config, Config]:
        """Return the settings to claim the folder with and to speak with, by what there is of prompts.

        They differ for a run that an earlier version has begun, whose folder does not name the day that it tells.
        """
        folder = self.folder
        evaluated = [path / TRAJECTORIES for path in (folder.test_eval("closed-book"), folder.dev_eval("warmup"))]
        ready = [Path(config.data.warmup)] if config.data.warmup else []
        spoken = as_begun(config, self.base, *ready, folder.warmup_trajectories, *evaluated)
        if (day := spoken.agent.date) == config.agent.date:
            return config, config
        self.say(f"The chat template is told that today is {day}, as in the prompts that are there.")
        known = not folder.config.exists() or load_config(folder.config).agent.date == day
        return (spoken if known else config), spoken

    def run(self) -> RunSummary:
        """Run what is not done yet; return the summary, which is also written to the folder."""
        try:
            summary = self._stages()
        finally:
            self._free_engine()
            self.folder.metrics.close()
        return summary

    def _stages(self) -> RunSummary:
        self.baselines()
        self.warm_up()
        models = ["warmup"]
        self.assess("warmup")
        best, waited = self.validate("warmup"), 0
        iterations: list[Iteration] = []
        for number in range(1, self.config.loop.iterations + 1):
            name = f"iter-{number}"
            weights = self.e_step(name, number, models[-1])
            examples = self.m_step(name, models[-1], weights)
            self.assess(name)
            iterations.append(self._iteration(name, summarise(weights), examples))
            models.append(name)
            waited = 0 if iterations[-1].validation_em > best else waited + 1
            best = max(best, iterations[-1].validation_em)
            if waited == self.config.loop.patience:
                self.say(f"Validation has not improved for {waited} iterations: stopping.")
                break
        return self.summarise(models, iterations)

    def baselines(self) -> None:
        """Score what every later score must beat."""
        self.say("Baselines: the untrained model without search, and the commonest training answer.")
        agent, spoken = (
            msgspec.structs.replace(config.agent, grammar="closed-book") for config in (self.config, self._spoken)
        )
        protocol = make_protocol(agent, self.retriever.fingerprint, self.test_questions)
        evaluation = Evaluation(self.folder.test_eval("closed-book"), self.test_questions, protocol)
        with self._timed("closed-book"):
            if not has_scores(evaluation.folder):
                config = msgspec.structs.replace(self.config, agent=spoken)
                with closing(load_agents(config, self.base, config.data.index, self.retriever)) as agents:
                    evaluate(agents, [evaluation], "closed-book", "closed-book answers")
        majority(
            self.train_questions, Evaluation(self.folder.test_eval("majority"), self.test_questions, self.protocol)
        )

    def warm_up(self) -> None:
        """Teach the grammar by supervised fine-tuning on gold trajectories."""
        if not self._warms_up:
            self.say("Warm-up: none, the model is taken to know the grammar.")
            return
        gold = self._gold_trajectories()
        source = self.config.data.warmup or f"of {self.config.warmup.questions} questions"
        self.say(f"Warm-up: learn the grammar from {len(gold)} gold trajectories ({source}).")
        write_jsonl(self.folder.warmup_trajectories, gold)
        self._train("warmup", self.base, self._warmup_examples(), self.config.warmup)

    def e_step(self, name: str, number: int, previous: str) -> list[Weighted]:
        """Explore with the model of `previous`, then weigh."""
        questions = self.questions_of(number)
        path = self.folder.weights(name)
        if path.exists():
            return list(read_jsonl(path, Weighted))
        k = self.config.explore.samples
        self.say(f"E-step of {name}: explore {len(questions)} training questions, {k} trajectories each.")
        with self._timed(f"{name}/explore"):
            trajectories = explore(
                self._agents_for(self._checkpoint(previous)),
                questions,
                self.config.explore,
                derive_seed(self.config.seed, name) >> 1,
                self.folder.trajectories(name),
                label=f"{name} explore",
            )
        if told := few_failed(trajectories):
            self.say(f"{told}. They weigh nothing.")
        weights = weigh(trajectories, questions, self.config.weigh)
        write_jsonl(path, weights)
        return weights

    def m_step(self, name: str, previous: str, weights: list[Weighted]) -> int:
        """Learn from the weighted trajectories; return how many there are."""
        trajectories = read_jsonl(self.folder.trajectories(name), Trajectory)
        examples = weighted_examples(trajectories, weights, self.chat, self.config.learn)
        count = len(examples)
        self.say(f"M-step of {name}: learn from {count} trajectories, each by its weight.")
        examples += self.to_mix_in()
        self._train(name, self._checkpoint(previous), examples, self.config.learn)
        return count

    def to_mix_in(self) -> list[Example]:
        """Return the examples of the warm-up that each M-step learns from, too."""
        mixed = self.config.learn.warmup_mix
        return self._warmup_examples()[:mixed] if mixed else []

    def questions_of(self, number: int) -> list[Question]:
        """Return the questions of an iteration: the next ones after the warm-up's, wrapping around."""
        count = min(self.config.explore.questions, len(self.pool))
        first = (number - 1) * count
        return [self.pool[(first + offset) % len(self.pool)] for offset in range(count)]

    def assess(self, name: str) -> None:
        """Evaluate a model on the test, validation and first explored training questions."""
        self.say(f"Evaluate {name}: greedy answers to held-out questions, and to some of the training questions.")
        sets = {
            self.folder.test_eval(name): self.test_questions,
            self.folder.dev_eval(name): self.dev_questions,
            self.folder.train_eval(name): self.questions_of(1)[: len(self.dev_questions)],
        }
        left = [
            Evaluation(folder, questions, self._protocol(questions))
            for folder, questions in sets.items()
            if not has_scores(folder)
        ]
        if left:
            with self._timed(f"{name}/eval"):
                evaluate(self._agents_for(self._checkpoint(name)), left, name, f"{name} answers")
        scores = read_scores(self.folder.test_eval(name))
        em, f1 = scores.figures["em"], scores.figures["f1"]
        self.say(f"  {name}: exact match {em.mean:.1%} [{em.low:.1%}, {em.high:.1%}], F1 {f1.mean:.1%}, n = {em.n}")

    def validate(self, name: str) -> float:
        """Return a model's exact match on the validation questions."""
        return read_scores(self.folder.dev_eval(name)).figures["em"].mean

    def summarise(self, models: list[str], iterations: list[Iteration]) -> RunSummary:
        """Choose the best model by validation, compare it with the warm-up on the test questions, write it down."""
        best = max(models, key=lambda name: (self.validate(name), models.index(name)))
        comparison = None
        if best != "warmup":
            before, after = (self._test_em(name) for name in ("warmup", best))
            comparison = Comparison("warmup", best, paired_difference(before, after))
        train_probability = {name: answer_probability(read_scores(self.folder.train_eval(name))) for name in models}
        summary = RunSummary(
            title=self.config.title,
            models=["closed-book", "majority", *models],
            best=best,
            seconds=self._seconds(),
            comparison=comparison,
            iterations=iterations,
            train_answer_probability=train_probability,
        )
        write_json(self.folder.summary, summary)
        return summary

    def _iteration(self, name: str, weights: WeightSummary, examples: int) -> Iteration:
        return Iteration(
            name=name,
            questions=weights.questions,
            skipped=weights.skipped,
            mean_answer_probability=weights.mean_answer_probability,
            malformed=weights.malformed,
            effective_sample_size=weights.effective_sample_size,
            weight_entropy=weights.weight_entropy,
            sample_exact_match=weights.exact_match,
            any_exact_match=weights.any_exact_match,
            examples=examples,
            validation_em=self.validate(name),
        )

    def _checkpoint(self, name: str) -> Path:
        """Return a model's checkpoint; without a warm-up, the model of that name is the base."""
        if name == "warmup" and not self._warms_up:
            return self.base
        return self.folder.checkpoint(name)

    def _test_em(self, name: str) -> list[float]:
        return [row.em for row in read_scores(self.folder.test_eval(name)).questions]

    def _protocol(self, questions: list[Question]) -> Protocol:
        return make_protocol(self.config.agent, self.retriever.fingerprint, questions)

    @property
    def _warms_up(self) -> bool:
        return bool(self.config.data.warmup) or self.config.warmup.questions > 0

    def _to_explore(self) -> list[Question]:
        """Return the training questions that the warm-up does not learn from."""
        if not self.config.data.warmup:
            return self.train_questions[self.config.warmup.questions :]
        ready = {trajectory.question_id for trajectory in read_jsonl(Path(self.config.data.warmup), Trajectory)}
        return [question for question in self.train_questions if question.id not in ready]

    def _gold_trajectories(self) -> list[Trajectory]:
        config = self.config
        if config.data.warmup:
            return read_warmup(Path(config.data.warmup), self.chat)
        questions = self.train_questions[: config.warmup.questions]
        agent = within_context(config.agent, self.base)
        return gold_trajectories(questions, self.retriever, self.chat, agent, self.gold_passages)

    def _warmup_examples(self) -> list[Example]:
        gold = read_jsonl(self.folder.warmup_trajectories, Trajectory)
        return [example_from(trajectory, 1.0, None, self.chat) for trajectory in gold]

    def _train(self, name: str, base: Path, examples: list[Example], config: TrainingConfig) -> None:
        self._free_engine()
        stage = f"{name}/learn"
        metrics = self.folder.metrics
        with self._timed(stage):
            train(
                base,
                examples,
                self.folder.checkpoint(name),
                config,
                self.config.model,
                self.config.seed,
                label=f"{name} learn",
                log=lambda step, figures: metrics.append(stage, step, **figures),
                rewind=lambda step: metrics.rewind(stage, step),
            )

    def _agents_for(self, checkpoint: Path) -> Agents:
        if self._agents is None or self._loaded != checkpoint:
            self._free_engine()
            self._agents = load_agents(self._spoken, checkpoint, self.config.data.index, self.retriever)
            self._loaded = checkpoint
        return self._agents

    def _free_engine(self) -> None:
        """Drop the engine's memory before the trainer needs it: one device is enough for both."""
        if self._agents is not None:
            self._agents.close()
        self._agents = None
        give_back_memory()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        if seconds > 1:
            self.folder.metrics.append("seconds", 0, **{stage: round(seconds, 1)})

    def _seconds(self) -> dict[str, float]:
        """Sum the recorded seconds of each stage, over all starts of this run."""
        total: dict[str, float] = {}
        for line in read_jsonl(self.folder.metrics.path, dict[str, str | float]):
            if line["stage"] == "seconds":
                for stage, seconds in line.items():
                    if stage not in ("stage", "step"):
                        total[stage] = round(total.get(stage, 0.0) + float(seconds), 1)
        return total


def contents_of(config: Config, base: Path) -> dict[str, str]:
    """Return, by their keys, what the settings stand for that name something: fingerprints, and the precision here.

    Index and questions are kept whole in a run folder. Raises UsageError if there is no such file.
    """
    return {
        "model.path": model_fingerprint(base),
        "model.precision": str(pick_dtype(config.model)).removeprefix("torch."),
        "data.warmup": fingerprint(Path(config.data.warmup).read_bytes()) if config.data.warmup else "",
        "warmup.deepspeed": zero_fingerprint(config.warmup.deepspeed),
        "learn.deepspeed": zero_fingerprint(config.learn.deepspeed),
    }


def _check_scores(config: Config) -> None:
    """Raise UsageError for a setting that needs scores which exploring will not bring."""
    steps = config.explore.score_steps or config.explore.branches > 1
    if config.weigh.gate_gain and not (steps or config.explore.score_opening):
        raise UsageError("weigh.gate_gain needs explore.score_opening = true")
    if config.learn.step_credit and not steps:
        raise UsageError("learn.step_credit needs explore.score_steps = true")


def encode_summary(summary: RunSummary) -> str:
    """Return the summary as one line of JSON, for `--json`."""
    return msgspec.json.encode(summary).decode()
