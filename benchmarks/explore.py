"""The E-step beside the loop that it replaces, and beside what its engine could do at best.

    make quickstart
    python benchmarks/explore.py [--run runs/quickstart] [--engine transformers] [--questions 16]

Model, index and questions are those of a quickstart: its warm-up checkpoint explores its training questions, K = 8.
The sides take turns, round after round, each in a process of its own, so that none has what another one left:

* `ours`: explore with scores of the answers, all trajectories in flight. It is the first that its process does.
* `unscored`: the same without scores.
* `offline`: the engine's own limit. The tokens of `ours` are all known beforehand: each trajectory's prompts are fed
  and its turns forced token by token, as many at once as there are seats, without retriever, grammar or waiting.
* `after work`: `ours` once more, after what commands do between explorations: passages were encoded by torch, and a
  checkpoint loaded. Only for transformers, like what follows.
* `after an M-step`: `ours` once more, after a training in the same process.
* `loop`: what the method's first code did. One trajectory at a time, every turn a chat call that begins with an empty
  cache, then a pass of its own over each trajectory for the scores. Samples of a question share nothing in it, so that
  it walks one of each.
* `copies`: `ours` with two copies of the model in processes of their own (`model.data_parallel = 2`; only
  for transformers on processors).
* `ray`: `ours` in two Ray workers of one core each (with `--ray`).

Rates are trajectories per second, with K = 8 samples per question, next to the number of processors at work.
`--extras` also measures the peak memory of 64 trajectories of 2,000 tokens in flight, and what rounding to bfloat16
does to scores and weights.

Prints a table and writes benchmarks/results/explore-ENGINE.json.
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import torch
from agents import in_a_process, make_agent
from explore_extras import memory, rounding
from page import command_line, insert_table, rows

from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config, RolloutConfig, load_config
from exsearch.core.atomic import write_text
from exsearch.core.tokens import TokenIds
from exsearch.em.explore import explore
from exsearch.engine.base import Completion, Sampling, Seat
from exsearch.questions.question import Question, read_questions
from exsearch.retrieval.encoders.token_encoder import TokenEncoder
from exsearch.training.example import example_from
from exsearch.training.job import Job
from exsearch.training.start import train

RESULTS = Path(__file__).parent / "results"
SAMPLES = 8
LEARNED = 16
"""Trajectories of the M-step between two explorations."""


@dataclass
class Task:
    """What a side explores, and how."""

    run: Path
    config: Config
    questions: list[Question]
    in_flight: int
    seed: int

    @property
    def folder(self) -> Path:
        """The checkpoint that explores."""
        return self.run / "warmup"

    def agent(self, in_flight: int = 0, **model: Any) -> Agent:
        """Load the checkpoint, with other settings of the model, and open the index."""
        config = msgspec.structs.replace(self.config, model=msgspec.structs.replace(self.config.model, **model))
        return make_agent(config, self.run, RolloutConfig(in_flight=in_flight or self.in_flight))


@dataclass
class Measured:
    """What a side did in one round."""

    rates: dict[str, float] = field(default_factory=dict)
    """Trajectories a second."""
    use: dict[str, float] = field(default_factory=dict)
    """Processors at work, on average."""
    trajectories: list[Trajectory] = field(default_factory=list)
    peak_bytes: int = 0

    def measure(self, name: str, call: Callable[[], list[Any]]) -> list[Any]:
        """Time a call that returns one thing a trajectory."""
        cpu, start = cpu_seconds(), time.monotonic()
        found = call()
        seconds = time.monotonic() - start
        self.rates[name], self.use[name] = len(found) / seconds, (cpu_seconds() - cpu) / seconds
        self.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return found


def cpu_seconds() -> float:
    """Return what this process and all that it started have computed so far."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


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
        """Score the target in a seat of its own: one pass over the prefix, whatever the engine does underneath."""
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
    task = Task(options.run, config, questions, options.in_flight, options.seed)
    sides: list[Callable[[Task], Measured]] = [ours, loop]
    if options.engine == "transformers" and not torch.cuda.is_available():
        sides.append(copies)
    if options.ray:
        sides.append(on_ray)
    rates: dict[str, list[float]] = {}
    use: dict[str, list[float]] = {}
    trajectories: list[Trajectory] = []
    peak = 0
    for _ in range(options.rounds):
        for side in sides:
            measured = in_a_process(side, task)
            trajectories, peak = measured.trajectories or trajectories, max(peak, measured.peak_bytes)
            for name, rate in measured.rates.items():
                rates.setdefault(name, []).append(rate)
                use.setdefault(name, []).append(measured.use[name])
                print(f"{name:>16}: {rate:8.3f} trajectories/s, {measured.use[name]:.2f} processors", flush=True)
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
        "processors_at_work": use,
        "ratios": ratios(rates),
        "peak_bytes": peak,
    }
    if options.extras:
        result["memory"] = memory(config, options.run)
        result["rounding"] = rounding(config, options.run, trajectories, questions)
    write_text(RESULTS / f"explore-{options.engine}.json", json.dumps(result, indent=1) + "\n")
    insert_table(f"explore-{options.engine}", table(result))
    show(result)


def forget(engine: Any) -> None:
    """Empty the cache of an engine of transformers."""
    engine.forget()


def run_explore(agent: Agent, task: Task, scored: bool = True) -> list[Trajectory]:
    """Explore with an empty cache."""
    forget(agent.engine)
    settings = msgspec.structs.replace(task.config.explore, samples=SAMPLES)
    if not scored:
        tasks = [(question, sample) for question in task.questions for sample in range(SAMPLES)]
        return agent.rollout(tasks, Draw(task.seed, settings.temperature, settings.top_p))
    with tempfile.TemporaryDirectory() as folder:
        return explore(agent, task.questions, settings, task.seed, Path(folder) / "trajectories.jsonl")


def ready(agent: Any, task: Task) -> None:
    """Explore a little, with another seed: first use compiles and loads."""
    settings = msgspec.structs.replace(task.config.explore, samples=2)
    with tempfile.TemporaryDirectory() as folder:
        explore(agent, task.questions[:2], settings, task.seed + 1, Path(folder) / "trajectories.jsonl")


def ours(task: Task) -> Measured:
    """Measure explore and its parts, then explore again after other work."""
    measured, agent = Measured(), task.agent()
    ready(agent, task)
    measured.trajectories = measured.measure("ours", lambda: run_explore(agent, task))
    measured.measure("unscored", lambda: run_explore(agent, task, scored=False))
    measured.measure("offline", lambda: replay(agent, measured.trajectories, task.questions))
    if task.config.model.engine == "transformers":
        between(task)
        measured.measure("after work", lambda: run_explore(agent, task))
        learn(task, agent.chat, measured.trajectories)
        measured.measure("after an M-step", lambda: run_explore(agent, task))
    agent.close()
    return measured


def between(task: Task) -> None:
    """Do what a command's main thread asks for between explorations."""
    TokenEncoder(backend="torch-float32").encode_passages([f"Passage {n} of the corpus. " * 40 for n in range(64)])
    make_agent(task.config, task.run, RolloutConfig(in_flight=1)).close()


def learn(task: Task, chat: ChatFormat, trajectories: list[Trajectory]) -> None:
    """Train on some of the trajectories."""
    examples = [example_from(trajectory, 1.0, None, chat) for trajectory in trajectories[:LEARNED] if trajectory.answer]
    with tempfile.TemporaryDirectory() as folder:
        config, out = task.config, Path(folder) / "checkpoint"
        job = Job.of(task.folder, examples, out, config.learn, config.model, task.seed, "M-step")
        train(job, lambda step, figures: None)


def copies(task: Task) -> Measured:
    """Measure explore with two copies of the model."""
    measured, agent = Measured(), task.agent(data_parallel=2)
    ready(agent, task)
    measured.measure("copies", lambda: run_explore(agent, task))
    agent.close()
    return measured


def replay(agent: Agent, trajectories: list[Trajectory], questions: list[Question]) -> list[Trajectory]:
    """Give the engine the same tokens, all known beforehand; return the trajectories."""
    forget(agent.engine)
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

    asyncio.run(every())
    return trajectories


def turns(trajectory: Trajectory) -> list[tuple[int, int]]:
    """Return where each turn of the model begins and ends."""
    edges = np.flatnonzero(np.diff([0, *trajectory.loss_mask, 0])).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def loop(task: Task) -> Measured:
    """Measure one trajectory after another, each scored again at the end."""
    # every pass of the transformers engine has a row for each seat: this engine has one
    walker = task.agent(in_flight=task.in_flight if task.config.model.engine == "vllm" else 1)
    single = Agent(
        Forgetful(walker.engine), walker.retriever, walker.chat, task.config.agent, RolloutConfig(in_flight=1)
    )
    walk(single, task, task.questions[:1])
    measured = Measured()
    measured.measure("loop", lambda: walk(single, task, task.questions))
    walker.close()
    return measured


def walk(agent: Agent, task: Task, questions: list[Question]) -> list[Trajectory]:
    """Roll out one trajectory of each question after another, then score each again."""
    draw = Draw(task.seed, task.config.explore.temperature, task.config.explore.top_p)
    trajectories = [trajectory for question in questions for trajectory in agent.rollout([(question, 0)], draw)]
    answers = {question.id: question.answers for question in questions}
    for trajectory in trajectories:
        if trajectory.answer_start is not None:
            prefix = trajectory.token_ids[: trajectory.answer_start]
            for alias in answers[trajectory.question_id]:
                asyncio.run(agent.engine.open().logprobs(prefix, [*agent.chat.encode(alias), agent.chat.stop_id]))
    return trajectories


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
    pairs = [("after work", "ours"), ("after an M-step", "ours")]
    pairs += [("copies", "loop"), ("copies", "ours"), ("ray", "ours"), ("ray", "copies")]
    return found | {
        f"{above} / {below}": spread(above, below) for above, below in pairs if {above, below} <= set(rates)
    }


def on_ray(task: Task) -> Measured:
    """Measure explore on two Ray workers of one core each."""
    from exsearch.agent.experiment import Experiment
    from exsearch.agent.ray_agents import RayAgents

    rollout = RolloutConfig(in_flight=task.in_flight // 2, ray="local", workers=2)
    config = msgspec.structs.replace(task.config, rollout=rollout)
    data = msgspec.structs.replace(config.data, index=str(task.run / "index"))
    agents = RayAgents(Experiment(msgspec.structs.replace(config, data=data)).with_model(task.folder))
    ready(agents, task)
    settings = msgspec.structs.replace(config.explore, samples=SAMPLES)
    measured = Measured()
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "trajectories.jsonl"
        measured.measure("ray", lambda: explore(agents, task.questions, settings, task.seed, journal))
    agents.close()
    return measured


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
    rates, settings, shape = result["trajectories_per_second"], result["settings"], result["trajectories"]
    use = result["processors_at_work"]
    lines = [[name, f"{np.median(values):.3f}", f"{np.median(use[name]):.2f}"] for name, values in rates.items()]
    ratio = [
        [name, f"{middle:.2f} ({least:.2f} to {most:.2f})"] for name, (least, middle, most) in result["ratios"].items()
    ]
    about = (
        f"`{result['command']}`: {shape['count']} trajectories of {shape['tokens']:.0f} tokens, "
        f"{shape['generated']:.0f} of them generated, {shape['searches']:.1f} searches each; "
        f"{settings['in_flight']} in flight, {result['machine']['cores']} cores."
    )
    parts = [
        about,
        rows(["", "trajectories/s, median", "processors at work"], lines),
        rows(["", "median (minimum to maximum over the rounds)"], ratio),
    ]
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
