"""A made-up run folder for the tests of the report, with every part that a run can have."""

import random
from pathlib import Path

import msgspec

from exsearch.agent.trajectory import AliasScore, Step, StopReason, Trajectory
from exsearch.core.atomic import write_text
from exsearch.core.jsonl import write_json, write_jsonl
from exsearch.corpus.passage import Hit, Passage
from exsearch.evaluation.scores import Figure, QuestionScore, Scores, with_probabilities
from exsearch.questions.question import Question, SubQuestion
from exsearch.runs.weighted import Weighted

MODELS = ["closed-book", "majority", "warmup", "iter-1", "iter-2"]
SKILL = {"closed-book": 0.08, "majority": 0.12, "warmup": 0.3, "iter-1": 0.42, "iter-2": 0.5}
RIVERS = ["Arlen", "Bresk", "Cordel", "Dunmore", "Eskwater", "Farrow", "Glenn", "Harrowby"]
PEOPLE = [
    "Ada Lindqvist",
    "Bruno Castellan",
    "Clara Oyelaran",
    "Dmitri Havel",
    "Esme Fairweather",
    "Farid Nasser",
]


class World:
    """Questions about towns on rivers and their founders, and the passages that answer them."""

    def __init__(self, passages: int = 400, words: int = 90, seed: int = 5) -> None:
        self.random = random.Random(seed)
        self.passages = [self._passage(number, words) for number in range(passages)]

    def _passage(self, number: int, words: int) -> Passage:
        rng = self.random
        lead = f"Town {number} lies on the {rng.choice(RIVERS)} and was founded by {rng.choice(PEOPLE)}. "
        rest = " ".join(rng.choice(["mill", "bridge", "harvest", "charter", "guild", "market"]) for _ in range(words))
        return Passage(id=f"p{number}", title=f"Town {number}", text=f"{lead}The town is known for its {rest}.")

    def questions(self, split: str, count: int) -> list[Question]:
        return [self._question(f"{split}-{number}") for number in range(count)]

    def _question(self, id_: str) -> Question:
        hops = self.random.choice([2, 2, 2, 3, 4])
        gold = self.random.sample(self.passages, hops)
        answer = self.random.choice(PEOPLE)
        subs = [
            SubQuestion(
                f"Which river does {passage.title} lie on?",
                [self.random.choice(RIVERS)],
                passage.id,
                passage.text[:60],
            )
            for passage in gold[:-1]
        ]
        subs.append(SubQuestion(f"Who founded {gold[-1].title}?", [answer], gold[-1].id, gold[-1].text[:60]))
        return Question(
            id=id_,
            text=f"Who founded the town {hops} hops downstream of {gold[0].title}, on the {RIVERS[hops]}?",
            answers=[answer, answer.split()[-1]],
            type=self.random.choice(["bridge", "comparison"]),
            hops=hops,
            gold_passages=[passage.id for passage in gold],
            sub_questions=subs,
        )

    def trajectory(self, question: Question, sample: int, skill: float, search: bool = True) -> Trajectory:
        rng = self.random
        right = rng.random() < skill
        stop = StopReason.ANSWERED if right or rng.random() < 0.8 else rng.choice(list(StopReason)[1:4])
        steps = [self._step(question, skill, number) for number in range(rng.randint(1, 4) if search else 0)]
        if steps and stop is not StopReason.ANSWERED:
            steps[-1] = msgspec.structs.replace(steps[-1], evidence=None)
        length = 200 + 300 * len(steps)
        answered = stop is StopReason.ANSWERED
        base = -0.4 if right else -6.0
        return Trajectory(
            question_id=question.id,
            sample=sample,
            steps=steps,
            answer=(question.answers[0] if right else rng.choice(PEOPLE[:2]) + " II") if answered else None,
            stop_reason=stop,
            token_ids=list(range(length)),
            loss_mask=[int(i % 5 == 0) for i in range(length)],
            logprobs=[-0.25 if i % 5 == 0 else 0.0 for i in range(length)],
            answer_start=length - 5 if answered else None,
            seed=1,
            model_fingerprint="m",
            index_fingerprint="i",
            alias_scores=[AliasScore(alias, base - rng.random() * 3, 4) for alias in question.answers]
            if answered
            else [],
        )

    def _step(self, question: Question, skill: float, number: int) -> Step:
        rng = self.random
        found = rng.sample(self.passages, 5)
        gold = question.gold_passages[number % len(question.gold_passages)]
        if rng.random() < 0.3 + skill:
            found[rng.randrange(5)] = next(passage for passage in self.passages if passage.id == gold)
        return Step(
            query=f"Which river does the town of sub-query {number + 1} lie on?",
            hits=[Hit(passage, 20.0 - 2.5 * rank, rank) for rank, passage in enumerate(found, start=1)],
            evidence=f"{found[0].title} was founded by {question.answers[0]}.",
        )


def make_run(
    run: Path,
    test: int = 20,
    train: int = 10,
    k: int = 4,
    passages: int = 400,
    words: int = 90,
    dev: int = 6,
    branches: int = 0,
) -> Path:
    """Write a complete run folder of two iterations, where sample 1 of the second has this many branches."""
    world = World(passages, words)
    splits = {
        "train": world.questions("train", train),
        "dev": world.questions("dev", dev),
        "test": world.questions("test", test),
    }
    write_text(
        run / "config.toml",
        '[train]\nlr = 1e-4\nsamples = 4\n[model]\nname = "tiny"\napi_key = "sk-very-secret"\n',
    )
    write_json(run / "protocol.json", {"fingerprint": "f" * 16, "k": 5, "grammar": "exsearch"})
    for split, questions in splits.items():
        write_jsonl(run / "questions" / f"{split}.jsonl", questions)
    for model in MODELS:
        write_evaluation(run / "eval" / model, model, splits["test"], world)
    for model in MODELS[2:]:
        validation = "warmup-eval" if model == "warmup" else f"{model}/eval"
        write_evaluation(run / validation, model, splits["dev"], world)
        write_evaluation(run / "train-eval" / model, model, splits["train"], world)
    for iteration in ("iter-1", "iter-2"):
        branched = branches if iteration == "iter-2" else 0
        write_e_step(run / iteration, splits["train"], k, SKILL[iteration], world, branched)
    write_jsonl(run / "metrics.jsonl", list(losses()))
    write_json(run / "summary.json", summary(test, train))
    return run


def write_evaluation(folder: Path, model: str, questions: list[Question], world: World) -> None:
    attempts = [world.trajectory(question, 0, SKILL[model], model != "closed-book") for question in questions]
    if model != "majority":
        write_jsonl(folder / "trajectories.jsonl", attempts)
    scored = with_probabilities(
        [
            QuestionScore(
                question_id=question.id,
                em=float(attempt.answer in question.answers),
                f1=float(attempt.answer in question.answers) or 0.31,
                acc=float(attempt.answer in question.answers),
                recall=None if model in ("closed-book", "majority") else len(attempt.steps) / 5,
                searches=len(attempt.steps),
                tokens=sum(attempt.loss_mask),
                answer_logprob=max((score.logprob for score in attempt.alias_scores), default=None),
                stop_reason=attempt.stop_reason,
            )
            for question, attempt in zip(questions, attempts, strict=True)
        ]
    )
    figures = {
        key: figure([value for score in scored if (value := getattr(score, key)) is not None])
        for key in ("em", "f1", "acc", "recall", "searches", "tokens", "answer_probability", "malformed")
    }
    hops = {
        str(hop): figure([score.em for score, question in zip(scored, questions, strict=True) if question.hops == hop])
        for hop in (2, 3, 4)
    }
    stops: dict[str, int] = {}
    for score in scored:
        stops[score.stop_reason] = stops.get(score.stop_reason, 0) + 1
    scores = Scores(
        name=model,
        protocol="f" * 16,
        figures=figures,
        stop_reasons=stops,
        by_hops=hops,
        questions=scored,
    )
    write_json(folder / "scores.json", scores)


def figure(values: list[float]) -> Figure:
    n = len(values)
    mean = sum(values) / max(n, 1)
    spread = 1.96 * (sum((value - mean) ** 2 for value in values) / max(n, 1)) ** 0.5 / max(n, 1) ** 0.5
    low = mean - spread
    return Figure(mean, low if mean < 0 else max(low, 0.0), mean + spread, n)


def write_e_step(folder: Path, questions: list[Question], k: int, skill: float, world: World, branches: int) -> None:
    attempts = [world.trajectory(question, sample, skill) for sample in range(k) for question in questions]
    for branch in range(1, branches + 1):
        forked = [world.trajectory(question, 1, skill) for question in questions]
        attempts += [msgspec.structs.replace(one, branch=branch) for one in forked]
    share = 1 / (1 + branches)
    attempts = [msgspec.structs.replace(one, share=share) if one.sample == 1 else one for one in attempts]
    write_jsonl(folder / "trajectories.jsonl", attempts)
    by_question: dict[str, list[Trajectory]] = {}
    for attempt in attempts:
        by_question.setdefault(attempt.question_id, []).append(attempt)
    weights: list[Weighted] = []
    for question in questions:
        group = by_question[question.id]
        powers = [
            2.718 ** max(score.logprob for score in one.alias_scores) if one.alias_scores else 0.0 for one in group
        ]
        total = sum(powers) or 1.0
        for one, power in zip(group, powers, strict=True):
            right = float(one.answer in question.answers)
            best = max(one.alias_scores, key=lambda score: score.logprob, default=None)
            weights.append(
                Weighted(
                    question_id=question.id,
                    sample=one.sample,
                    branch=one.branch,
                    logprob=best.logprob if best else None,
                    exact_match=right,
                    f1=right,
                    weight=power / total,
                    target=best.alias if best and not right else None,
                )
            )
    write_jsonl(folder / "weights.jsonl", weights)


def losses() -> list[dict[str, object]]:
    lines: list[dict[str, object]] = [{"stage": "iter-1/explore", "questions": 10}]
    for stage, start in (("warmup", 2.5), ("iter-1/learn", 0.6), ("iter-2/learn", 0.5)):
        for step in range(1, 60):
            loss = start * (0.3 + 0.7 / step**0.5)
            lines.append(
                {
                    "stage": stage,
                    "step": step,
                    "loss": loss,
                    "search_loss": loss * 1.1,
                    "answer_loss": loss * 0.6,
                    "lr": 1e-4,
                }
            )
    return lines


def summary(test: int, train: int) -> dict[str, object]:
    return {
        "title": "Quickstart: a small world",
        "models": MODELS,
        "best": "iter-2",
        "seconds": {"warmup": 61.0, "iter-1/explore": 212.5, "iter-1/learn": 95.2, "eval": 140.0},
        "comparison": {
            "a": "warmup",
            "b": "iter-2",
            "difference": {"mean": 0.17, "low": 0.05, "high": 0.29, "n": test},
        },
        "iterations": [
            {
                "name": f"iter-{i}",
                "mean_answer_probability": 0.2 + 0.1 * i,
                "malformed": 0.125 / i,
                "sources": {"iter-1": 1.0} if i == 1 else {"iter-1": 0.4, "iter-2": 0.6},
                "ratios_worth": {} if i == 1 else {"iter-1": 2.75},
                "guard": f"iteration {i} was shortened by half: p(answer) 0.47 -> 0.50",
                "effective_sample_size": 2.4,
                "weight_entropy": 0.7,
                "questions": train,
                "skipped": 1,
                "sample_exact_match": 0.31,
                "any_exact_match": 0.8,
                "examples": 210,
                "validation_em": 0.28 + 0.08 * i,
            }
            for i in (1, 2)
        ],
    }
