"""The EM loop: warm up, then explore, weigh and learn until validation no longer improves.

Reads top to bottom as the method of DESIGN.md section 2. Every stage leaves a file or folder in the run folder and
is skipped when that is there, so the same command continues a run that was cut off.
"""

import statistics
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from exsearch.agent.agents import Agents, load_agents
from exsearch.agent.chat import ChatFormat
from exsearch.agent.journal import few_failed
from exsearch.agent.loading import as_begun, load_retriever
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config, load_config
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_jsonl, write_json, write_jsonl
from exsearch.core.seeds import derive_seed
from exsearch.em.explore import explore
from exsearch.em.guard import PARTS, Decision, Standing
from exsearch.em.guarded import GuardedSteps
from exsearch.em.m_step import MStep
from exsearch.em.questions import RunQuestions, require_files
from exsearch.em.replay import Source
from exsearch.em.stage_times import StageTimes
from exsearch.em.weigh import WeightSummary, summarise, weigh, weighting_of
from exsearch.engine.builtin import model_fingerprint, resolve_model
from exsearch.engine.load import adapter_fingerprint
from exsearch.evaluation.baselines import majority
from exsearch.evaluation.bootstrap import answer_probability, figure, paired_difference
from exsearch.evaluation.evaluate import Evaluation, evaluate
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.protocol import Protocol, make_protocol
from exsearch.evaluation.scores import Figure, are_of_one_event, has_scores, read_scores
from exsearch.hardware.devices import pick_dtype
from exsearch.hardware.memory import give_back_memory
from exsearch.questions.question import Question
from exsearch.runs.folder import RunFolder
from exsearch.runs.records import Comparison, Iteration, RunSummary
from exsearch.runs.weighted import Weighted
from exsearch.training.example import Example, example_from
from exsearch.training.trainer import refuse_adapter, require_length
from exsearch.training.zero_settings import zero_fingerprint
from exsearch.warmup.plan import GoldPassages
from exsearch.warmup.write import gold_trajectories, read_warmup, within_context

Say = Callable[[str], None]


class EMRun:
    """One run of the EM loop in one run folder."""

    def __init__(self, config: Config, root: Path, say: Say) -> None:
        """Check the inputs and claim the folder; raises UsageError before any work is done."""
        self.folder = RunFolder(root, config.tracking)
        config, earlier = self.folder.as_its_version_did(config)
        if earlier:
            say(earlier)
        self.config, self.say = config, say
        data = config.data
        require_files(config)
        _check_scores(config)
        refuse_adapter(config.model)
        self.retriever = load_retriever(config, data.index)
        self.questions = RunQuestions.read(config)
        self.gold_passages = GoldPassages.of_index(data.index, config)
        say(f"Model: {config.model.path}; what is not a folder here is made or fetched once, into your cache folder.")
        self.base = resolve_model(config.model.path)
        self.config, self._spoken = self._as_begun(config)
        self.chat = ChatFormat.load(self.base, self._spoken.agent)
        if data.warmup:
            ready = read_warmup(Path(data.warmup), self.chat)  # to refuse now what it would refuse after the baselines
            require_length(self.base, max(len(trajectory.token_ids) for trajectory in ready))
        self.protocol = self._protocol(self.questions.test)
        contents = contents_of(config, self.base)
        self.folder.check(self.config, contents)
        self.folder.claim_inputs(self.protocol, self.questions.splits())
        if changed := self.folder.claim(self.config, contents):
            say(f"Continued with other settings, which change no result: {'; '.join(map(str, changed))}.")
        self._agents: Agents | None = None
        self._loaded: Path | None = None
        self._refused: list[bool] = []
        """Of each iteration so far, whether the guard refused its step."""
        self._times = StageTimes(self.folder.metrics)
        use = self._agents_for, self._free_engine
        self._m_step = MStep(self.config, self.folder, self.questions, self.chat, self._times, *use, say)
        guard = self.questions.guard
        self._guard = GuardedSteps(self.config, self.folder, guard, *use) if guard else None

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
            return self._stages()
        finally:
            self.close()

    def close(self) -> None:
        """Free what was loaded, and let the trackers write what they hold back."""
        self._free_engine()
        self.folder.metrics.close()

    def _stages(self) -> RunSummary:
        self.baselines()
        self.warm_up()
        models, explorers = ["warmup"], dict[str, Path]()
        self.assess("warmup")
        best, waited = self.merit("warmup"), 0
        iterations: list[Iteration] = []
        for number in range(1, self.config.loop.iterations + 1):
            name = f"iter-{number}"
            explorers[name] = self._checkpoint(models[-1])
            weights = self.e_step(name, number, models[-1])
            learned = self.m_step(name, explorers)
            decision = self.guarded(name, models[-1])
            if decision is None or decision.taken:
                models.append(name)
                self.assess(name)
            iterations.append(self._iteration(name, models[-1], summarise(weights), learned, decision))
            merit = self.merit(models[-1])
            waited = 0 if merit > best else waited + 1
            best = max(best, merit)
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
        protocol = make_protocol(agent, self.retriever.fingerprint, self.questions.test)
        evaluation = Evaluation(self.folder.test_eval("closed-book"), self.questions.test, protocol)
        with self._times.of("closed-book"):
            if not has_scores(evaluation.folder):
                config = msgspec.structs.replace(self.config, agent=spoken)
                with closing(load_agents(config, self.base, config.data.index, self.retriever)) as agents:
                    evaluate(agents, [evaluation], "closed-book", "closed-book answers")
        majority(
            self.questions.train, Evaluation(self.folder.test_eval("majority"), self.questions.test, self.protocol)
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
        checkpoint = self.folder.checkpoint("warmup")
        self._m_step.train("warmup/learn", self.base, self._warmup_examples(), self.config.warmup, checkpoint)

    def e_step(self, name: str, number: int, previous: str) -> list[Weighted]:
        """Explore with the model of `previous`, then weigh."""
        questions = self.questions_of(number)
        path = self.folder.weights(name)
        if path.exists():
            return list(read_jsonl(path, Weighted))
        k = self.config.explore.samples
        self.say(f"E-step of {name}: explore {len(questions)} training questions, {k} trajectories each.")
        with self._times.of(f"{name}/explore"):
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

    def m_step(self, name: str, explorers: dict[str, Path]) -> list[Source]:
        """Learn from the weighted trajectories; return what each E-step adds to them.

        `explorers` has the model that explored in each iteration up to this one, which comes last.
        """
        examples, sources = self._m_step.examples(name, explorers)
        if self._guard is not None and self.folder.guard_decision(name).exists():
            return sources
        told = f" ({', '.join(f'{each.examples} of {each.name}' for each in sources)})" if len(sources) > 1 else ""
        self.say(f"M-step of {name}: learn from {len(examples)} trajectories{told}, each by its weight.")
        target = self.folder.checkpoint(name) if self._guard is None else self.folder.part(name, PARTS[1.0])
        self._m_step.learn(name, explorers[name], examples + self.to_mix_in(), target)
        return sources

    def guarded(self, name: str, previous: str) -> Decision | None:
        """Keep as much of a step as the guard's questions allow; None without a guard."""
        if self._guard is None:
            self._refused.append(False)
            return None
        with self._times.of(f"{name}/guard"):
            decision = self._guard.decide(name, previous, self._checkpoint(previous))
        self._refused.append(decision.taken is None)
        self.say(f"Guard: {decision.sentence}.")
        return decision

    def standing(self, model: str) -> Standing:
        """Return how a model of the run does on the guard's questions."""
        assert self._guard is not None
        return self._guard.standing(model, self._checkpoint(model))

    def to_mix_in(self) -> list[Example]:
        """Return the examples of the warm-up that each M-step learns from, too."""
        mixed = self.config.learn.warmup_mix
        return self._warmup_examples()[:mixed] if mixed else []

    def questions_of(self, number: int) -> list[Question]:
        """Return the questions of an iteration: the next ones after the warm-up's, wrapping around."""
        return self.questions.to_explore(number, self.config.explore.questions, self._refused[: number - 1])

    def assess(self, name: str) -> None:
        """Evaluate a model on the test, validation and first explored training questions.

        With a guard, its questions take the place of the last two.
        """
        sets = {self.folder.test_eval(name): self.questions.test}
        if self._guard is None:
            self.say(f"Evaluate {name}: greedy answers to held-out questions, and to some of the training questions.")
            sets[self.folder.dev_eval(name)] = self.questions.dev
            sets[self.folder.train_eval(name)] = self.questions_of(1)[: len(self.questions.dev)]
        else:
            self.say(f"Evaluate {name}: answers to the test questions, and to those of the guard.")
            with self._times.of(f"{name}/guard"):
                self.standing(name)
        left = [
            Evaluation(folder, questions, self._protocol(questions))
            for folder, questions in sets.items()
            if not has_scores(folder)
        ]
        if left:
            with self._times.of(f"{name}/eval"):
                evaluate(self._agents_for(self._checkpoint(name)), left, name, f"{name} answers")
        scores = read_scores(self.folder.test_eval(name))
        em, f1 = scores.figures["em"], scores.figures["f1"]
        self.say(f"  {name}: exact match {em.mean:.1%} [{em.low:.1%}, {em.high:.1%}], F1 {f1.mean:.1%}, n = {em.n}")

    def merit(self, name: str) -> float:
        """Return what the best iteration is chosen by: exact match on validation questions, or the guard's figure."""
        return self.validate(name) if self._guard is None else self.standing(name).merit

    def validate(self, name: str) -> float:
        """Return a model's exact match on the questions that choose the best iteration."""
        if self._guard is not None:
            return round(statistics.fmean(self.standing(name).em), 5)
        return read_scores(self.folder.dev_eval(name)).figures["em"].mean

    def summarise(self, models: list[str], iterations: list[Iteration]) -> RunSummary:
        """Choose the best model by validation, compare it with the warm-up on the test questions, write it down."""
        best = max(models, key=lambda name: (self.merit(name), models.index(name)))
        comparison = None
        if best != "warmup":
            before, after = (self._test_em(name) for name in ("warmup", best))
            comparison = Comparison("warmup", best, paired_difference(before, after))
        train_probability = {name: self._on_training_questions(name) for name in models}
        if self._guard is None and not are_of_one_event([read_scores(self.folder.train_eval(name)) for name in models]):
            self.say("p(answer) is told of no model: an earlier version scored some of them by aliases alone.")
            train_probability = {}
        summary = RunSummary(
            title=self.config.title,
            models=["closed-book", "majority", *models],
            best=best,
            seconds=self._times.total(),
            comparison=comparison,
            iterations=iterations,
            train_answer_probability=train_probability,
        )
        write_json(self.folder.summary, summary)
        return summary

    def _on_training_questions(self, name: str) -> Figure:
        """Return a model's p(y | x, z) on training questions: some of those learned from, or the guard's."""
        if self._guard is None:
            return answer_probability(read_scores(self.folder.train_eval(name)))
        return figure(self.standing(name).probability)

    def _iteration(
        self, name: str, model: str, weights: WeightSummary, learned: list[Source], decision: Decision | None
    ) -> Iteration:
        """Sum an iteration up; `model` is what it ended with, the one before if its step was refused."""
        whole = sum(source.weight for source in learned) or 1.0
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
            examples=sum(source.examples for source in learned),
            validation_em=self.validate(model),
            sources={source.name: round(source.weight / whole, 5) for source in learned},
            ratios_worth={source.name: worth for source in learned if (worth := source.ratios_worth) is not None},
            guard=decision.sentence if decision else "",
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

    def _gold_trajectories(self) -> list[Trajectory]:
        config = self.config
        if config.data.warmup:
            return read_warmup(Path(config.data.warmup), self.chat)
        questions = self.questions.train[: config.warmup.questions]
        agent = within_context(config.agent, self.base)
        return gold_trajectories(questions, self.retriever, self.chat, agent, self.gold_passages)

    def _warmup_examples(self) -> list[Example]:
        gold = read_jsonl(self.folder.warmup_trajectories, Trajectory)
        return [example_from(trajectory, 1.0, None, self.chat) for trajectory in gold]

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


def contents_of(config: Config, base: Path) -> dict[str, str]:
    """Return, by their keys, what the settings stand for that name something: fingerprints, and the precision here.

    Index and questions are kept whole in a run folder. Raises UsageError if there is no such file.
    """
    return {
        "model.path": model_fingerprint(base),
        "model.adapter": adapter_fingerprint(config.model),
        "model.precision": str(pick_dtype(config.model)).removeprefix("torch."),
        "data.warmup": fingerprint(Path(config.data.warmup).read_bytes()) if config.data.warmup else "",
        "warmup.deepspeed": zero_fingerprint(config.warmup.deepspeed),
        "learn.deepspeed": zero_fingerprint(config.learn.deepspeed),
    }


def _check_scores(config: Config) -> None:
    """Raise UsageError for a setting that needs scores which exploring will not bring, or a weighting that is none."""
    weighting_of(config.weigh)
    steps = config.explore.score_steps or config.explore.branches > 1
    if config.weigh.gate_gain and not (steps or config.explore.score_opening):
        raise UsageError("weigh.gate_gain needs explore.score_opening = true")
    if config.learn.step_credit and not steps:
        raise UsageError("learn.step_credit needs explore.score_steps = true")


def encode_summary(summary: RunSummary) -> str:
    """Return the summary as one line of JSON, for `--json`."""
    return msgspec.json.encode(summary).decode()
