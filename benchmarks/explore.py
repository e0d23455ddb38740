"""The E-step beside the loop that it replaces, and beside what its engine could do at best.

    make quickstart
    python benchmarks/explore.py [--run runs/quickstart] [--engine transformers] [--questions 16]

Model, index and questions are those of a quickstart: its warm-up checkpoint explores its training questions, K = 8.
The sides take turns, round after round, on the same engine:

* `ours`: explore with scores of the answers, all trajectories in flight.
* `unscored`: the same without scores.
* `offline`: the engine's own limit. The tokens of `ours` are all known beforehand: each trajectory's prompts are fed
  and its turns forced token by token, as many at once as there are seats, without retriever, grammar or waiting.
* `loop`: what the method's first code did. One trajectory at a time, every turn a chat call that begins with an empty
  cache, then a pass of its own over each trajectory for the scores. Samples of a question share nothing in it, so that
  it walks one of each.
* `copies`: `ours` with two copies of the model in processes of their own (`model.data_parallel = 2`; only
  for transformers on processors).
* `ray`: `ours` in two Ray workers of one core each (with `--ray`).

Rates are trajectories a second, with K = 8 samples a question. `--extras` also measures the peak memory of 64
trajectories of 2,000 tokens in flight, and what rounding to bfloat16 does to scores and weights.

Prints a table and writes benchmarks/results/explore-ENGINE.json.
"""

import argparse
import asyncio
import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from page import command_line, insert_table, rows

from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import AliasScore, Trajectory
from exsearch.config import Config, RolloutConfig, WeighConfig, load_config
from exsearch.data.question import Question, read_questions
from exsearch.em.explore import explore
from exsearch.em.weigh import weigh
from exsearch.engine.base import Completion, Sampling, Seat, TokenIds
from exsearch.engine.batch import generate, logprobs
from exsearch.engine.load import load_engine
from exsearch.files import write_text
from exsearch.retrieval.opening import open_retriever

RESULTS = Path(__file__).parent / "results"
SAMPLES = 8


class Forgetful:
    """An engine whose every call begins with an empty cache, like a chat server's without prefix caching."""

    scores = True

    def __init__(self, engine: Any) -> None:
        """Wrap an engine."""
        self._engine = engine
        self.fingerprint, self.context_size, self.stats = engine.fingerprint, engine.context_size, engine.stats
        self.seats = 1

    def open(self) -> "Forgetful":
        """Return itself: nothing is kept for a conversation."""
        return self

    def close(self) -> None:
        """Nothing is held."""

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """Continue the prompt in a seat of its own."""
        seat = self._fresh()
        try:
            return await seat.generate(prompt, sampling, seed)
        finally:
            seat.close()

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        """Score the target in a seat of its own: one pass over the prefix, whatever the engine does behind it."""
        seat = self._fresh()
        try:
            first = await seat.logprobs(prefix, target[:1])
            return first + (await seat.logprobs(prefix + target[:1], target[1:]) if target[1:] else [])
        finally:
            seat.close()

    def _fresh(self) -> Seat:
        self._engine.forget()
        return self._engine.open()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--engine", default="transformers", choices=["transformers", "vllm"])
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--extras", action="store_true", help="memory and rounding, too")
    options = parser.parse_args()
    config = load_config(options.run / "config.toml", [f"model.engine={options.engine}", "model.data_parallel=1"])
    questions = read_questions(options.run / "questions" / "train.jsonl")[-options.questions :]
    ours = make_agent(config, options.run, RolloutConfig(in_flight=options.in_flight))
    alone = RolloutConfig(in_flight=1)
    # every pass of the transformers engine has a row for each seat, so the loop gets an engine with one
    walker = ours if options.engine == "vllm" else make_agent(config, options.run, alone)
    single = Agent(Forgetful(walker.engine), walker.retriever, walker.chat, config.agent, alone)
    copies = None
    if options.engine == "transformers" and not torch.cuda.is_available():
        model = msgspec.structs.replace(config.model, data_parallel=2)
        copies = make_agent(
            msgspec.structs.replace(config, model=model), options.run, RolloutConfig(in_flight=options.in_flight)
        )
        run_explore(copies, questions, config, options.seed, True)
    rates: dict[str, list[float]] = {}
    trajectories = run_explore(ours, questions, config, options.seed, True)[0]  # compiles and loads what first use does
    for _ in range(options.rounds):
        trajectories, seconds = run_explore(ours, questions, config, options.seed, True)
        rates.setdefault("ours", []).append(len(trajectories) / seconds)
        rates.setdefault("unscored", []).append(
            len(trajectories) / run_explore(ours, questions, config, options.seed, False)[1]
        )
        rates.setdefault("offline", []).append(len(trajectories) / replay(ours, trajectories, questions))
        rates.setdefault("loop", []).append(loop(single, questions, config, options.seed))
        if copies:
            found, seconds = run_explore(copies, questions, config, options.seed, True)
            rates.setdefault("copies", []).append(len(found) / seconds)
        if options.ray:
            rates.setdefault("ray", []).append(len(trajectories) / on_ray(config, options, questions))
        print({name: round(values[-1], 3) for name, values in rates.items()}, flush=True)
    for agent in {ours, walker, copies} - {None}:
        agent.close()
    result = {
        "command": command_line(),
        "versions": {name: importlib.metadata.version(name) for name in ("exsearch", "torch", "transformers")},
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "settings": {
            "questions": len(questions),
            "samples": SAMPLES,
            "in_flight": options.in_flight,
            "seed": options.seed,
            "precision": config.model.precision,
        },
        "trajectories": describe(trajectories),
        "trajectories_per_second": rates,
        "ratios": ratios(rates),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if options.extras:
        result["memory"] = memory(config, options.run)
        result["rounding"] = rounding(config, options.run, trajectories, questions)
    write_text(RESULTS / f"explore-{options.engine}.json", json.dumps(result, indent=1) + "\n")
    insert_table(f"explore-{options.engine}", table(result))
    show(result)


def make_agent(config: Config, run: Path, limits: RolloutConfig) -> Agent:
    """Load the warm-up checkpoint and open the index of a run."""
    folder = run / "warmup"
    chat = ChatFormat.load(folder)
    engine = load_engine(folder, config.model, chat, config.agent.context, limits.in_flight)
    return Agent(engine, open_retriever(str(run / "index")), chat, config.agent, limits)


def run_explore(
    agent: Agent, questions: list[Question], config: Config, seed: int, scored: bool
) -> tuple[list[Trajectory], float]:
    """Explore with an empty cache; return the trajectories and the seconds."""
    agent.engine.forget()
    settings = msgspec.structs.replace(config.explore, samples=SAMPLES)
    folder = Path(tempfile.mkdtemp())
    start = time.monotonic()
    if scored:
        found = explore(agent, questions, settings, seed, folder / "trajectories.jsonl")
    else:
        tasks = [(question, sample) for question in questions for sample in range(SAMPLES)]
        found = agent.rollout(tasks, Draw(seed, settings.temperature, settings.top_p))
    seconds = time.monotonic() - start
    shutil.rmtree(folder)
    return found, seconds


def replay(agent: Agent, trajectories: list[Trajectory], questions: list[Question]) -> float:
    """Give the engine the same tokens, all known beforehand; return the seconds."""
    agent.engine.forget()
    answers = {question.id: question.answers for question in questions}

    async def one(trajectory: Trajectory, free: asyncio.Semaphore) -> None:
        ids = trajectory.token_ids
        async with free:
            seat = agent.engine.open()
            for start, stop in turns(trajectory):
                await seat.logprobs(ids[:start], ids[start:stop])
            if trajectory.answer_start is not None:
                for alias in answers[trajectory.question_id]:
                    target = [*agent.chat.encode(alias), agent.chat.stop_id]
                    await seat.logprobs(ids[: trajectory.answer_start], target)
            seat.close()

    async def every() -> None:
        free = asyncio.Semaphore(agent.in_flight)
        await asyncio.gather(*(one(trajectory, free) for trajectory in trajectories))

    begin = time.monotonic()
    asyncio.run(every())
    return time.monotonic() - begin


def turns(trajectory: Trajectory) -> list[tuple[int, int]]:
    """Return where each turn of the model begins and ends."""
    edges = np.flatnonzero(np.diff([0, *trajectory.loss_mask, 0])).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def loop(agent: Agent, questions: list[Question], config: Config, seed: int) -> float:
    """Roll out one trajectory after another, then score each anew; return trajectories a second."""
    start = time.monotonic()
    draw = Draw(seed, config.explore.temperature, config.explore.top_p)
    trajectories = [trajectory for question in questions for trajectory in agent.rollout([(question, 0)], draw)]
    answers = {question.id: question.answers for question in questions}
    for trajectory in trajectories:
        if trajectory.answer_start is not None:
            prefix = trajectory.token_ids[: trajectory.answer_start]
            for alias in answers[trajectory.question_id]:
                asyncio.run(agent.engine.open().logprobs(prefix, [*agent.chat.encode(alias), agent.chat.stop_id]))
    return len(trajectories) / (time.monotonic() - start)


def ratios(rates: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the least, median and largest ratio of the rounds."""

    def spread(above: str, below: str) -> list[float]:
        values = np.array(rates[above]) / np.array(rates[below])
        return [float(values.min()), float(np.median(values)), float(values.max())]

    found = {
        "ours / loop": spread("ours", "loop"),
        "ours / offline": spread("ours", "offline"),
        "unscored / ours": spread("unscored", "ours"),
    }
    pairs = [("copies", "loop"), ("copies", "ours"), ("ray", "ours"), ("ray", "copies")]
    return found | {
        f"{above} / {below}": spread(above, below) for above, below in pairs if {above, below} <= set(rates)
    }


def on_ray(config: Config, options: argparse.Namespace, questions: list[Question]) -> float:
    """Explore on two Ray workers of one core each, already started; return the seconds."""
    from exsearch.agent.ray_agents import RayAgents

    rollout = RolloutConfig(in_flight=options.in_flight // 2, ray="local", workers=2)
    agents = RayAgents(
        msgspec.structs.replace(config, rollout=rollout), options.run / "warmup", str(options.run / "index")
    )
    settings = msgspec.structs.replace(config.explore, samples=SAMPLES)
    folder = Path(tempfile.mkdtemp())
    explore(agents, questions[:2], settings, options.seed + 1, folder / "warm-up.jsonl")
    start = time.monotonic()
    explore(agents, questions, settings, options.seed, folder / "trajectories.jsonl")
    seconds = time.monotonic() - start
    agents.close()
    shutil.rmtree(folder)
    return seconds


def memory(config: Config, run: Path) -> dict[str, int]:
    """Hold 64 conversations of 2,000 tokens in a process of its own; return its peak memory in bytes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return {"conversations": 64, "tokens": 2000, "peak_bytes": pool.apply(_hold, (config, run, 64, 2000))}


def _hold(config: Config, run: Path, conversations: int, tokens: int) -> int:
    chat = ChatFormat.load(run / "warmup")
    engine = load_engine(run / "warmup", config.model, chat, tokens, conversations)
    prompts = [[100 + number] * (tokens - 8) for number in range(conversations)]
    generate(engine, prompts, Sampling(8, []), list(range(conversations)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rounding(config: Config, run: Path, trajectories: list[Trajectory], questions: list[Question]) -> dict[str, float]:
    """Score the same trajectories in float32 and bfloat16; return how log-probs and `paper` weights differ."""
    answered = [trajectory for trajectory in trajectories if trajectory.alias_scores]
    scored = {}
    for precision in ("fp32", "bf16"):
        model = msgspec.structs.replace(config.model, precision=precision)
        agent = make_agent(msgspec.structs.replace(config, model=model), run, RolloutConfig())
        prefixes = [t.token_ids[: t.answer_start] for t in answered for _ in t.alias_scores]
        aliases = [score.alias for t in answered for score in t.alias_scores]
        targets = [[*agent.chat.encode(alias), agent.chat.stop_id] for alias in aliases]
        values = iter(logprobs(agent.engine, prefixes, targets))
        scores = [
            [AliasScore(s.alias, sum(found := next(values)), len(found)) for s in t.alias_scores] for t in answered
        ]
        scored[precision] = [msgspec.structs.replace(t, alias_scores=s) for t, s in zip(answered, scores, strict=True)]
    pairs = [
        (a.logprob / a.tokens, b.logprob / b.tokens)
        for exact, rounded in zip(scored["fp32"], scored["bf16"], strict=True)
        for a, b in zip(exact.alias_scores, rounded.alias_scores, strict=True)
    ]
    moved = np.abs([a - b for a, b in pairs])
    weights = [[w.weight for w in weigh(scored[precision], questions, WeighConfig())] for precision in ("fp32", "bf16")]
    change = np.abs(np.subtract(*weights))
    return {
        "scores": len(pairs),
        "mean_change_a_token": float(moved.mean()),
        "most_change_a_token": float(moved.max()),
        "mean_change_of_weight": float(change.mean()),
        "most_change_of_weight": float(change.max()),
    }


def describe(trajectories: list[Trajectory]) -> dict[str, float]:
    """Return what the trajectories are like, on average."""
    return {
        "count": len(trajectories),
        "tokens": float(np.mean([len(t.token_ids) for t in trajectories])),
        "generated": float(np.mean([sum(t.loss_mask) for t in trajectories])),
        "searches": float(np.mean([len(t.steps) for t in trajectories])),
    }


def table(result: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    rates, settings, told = result["trajectories_per_second"], result["settings"], result["trajectories"]
    lines = [[name, f"{np.median(values):.3f}"] for name, values in rates.items()]
    ratio = [
        [name, f"{middle:.2f} ({least:.2f} to {most:.2f})"] for name, (least, middle, most) in result["ratios"].items()
    ]
    about = (
        f"`{result['command']}`: {told['count']} trajectories of {told['tokens']:.0f} tokens, "
        f"{told['generated']:.0f} of them generated, {told['searches']:.1f} searches each; "
        f"{settings['in_flight']} in flight, {result['machine']['cores']} cores."
    )
    parts = [about, rows(["", "trajectories/s, median"], lines), rows(["", "median (least to most of a round)"], ratio)]
    if "memory" in result:
        rounded, held = result["rounding"], result["memory"]
        parts.append(
            f"{held['conversations']} conversations of {held['tokens']} tokens in flight take at most "
            f"{held['peak_bytes'] / 1e9:.1f} GB of memory in all. bfloat16 instead of float32 moves the log-prob of an "
            f"answer by {rounded['mean_change_a_token']:.3f} a token on average, {rounded['most_change_a_token']:.2f} "
            f"at most, and a `paper` weight by {rounded['mean_change_of_weight']:.3f}, "
            f"{rounded['most_change_of_weight']:.2f} at most ({rounded['scores']} scores)."
        )
    return "\n\n".join(parts)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    for name, values in result["trajectories_per_second"].items():
        print(f"{name:>16}: {np.median(values):8.3f} trajectories/s")
    for name, (least, middle, most) in result["ratios"].items():
        print(f"{name:>16}: {middle:8.2f} ({least:.2f} to {most:.2f})")
    if "memory" in result:
        print(f"{'64 x 2,000 tokens':>16}: {result['memory']['peak_bytes'] / 1e9:.2f} GB at most")


if __name__ == "__main__":
    main()
