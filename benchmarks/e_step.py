"""An iteration's E-step inside `exsearch train`, beside the same exploration by itself.

    make quickstart
    python benchmarks/e_step.py [--run runs/quickstart] [--questions 24] [--samples 4] [--rounds 3]

Each round is two processes, each with the only copy of the model. One runs the EM loop on the world of a quickstart,
with a short warm-up and few questions to evaluate: the process that explores has trained, loaded and evaluated models
before. The other one explores the same questions with the same model and seed, and has only loaded it and explored a
little before.

Prints the seconds of both and writes benchmarks/results/e_step.json.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from agents import in_a_process
from page import command_line

from exsearch.agent.agents import load_agents
from exsearch.agent.experiment import Experiment
from exsearch.config import Config, load_config
from exsearch.core.atomic import write_text
from exsearch.core.jsonl import read_jsonl
from exsearch.core.seeds import derive_seed
from exsearch.em import loop
from exsearch.em.explore import explore
from exsearch.em.loop import EMRun
from exsearch.questions.question import read_questions

RESULTS = Path(__file__).parent / "results"
SHORT = [
    "warmup.questions=16",
    "loop.iterations=1",
    "loop.guard=0",
    "data.dev_limit=4",
    "data.test_limit=4",
    "model.data_parallel=1",  # copies are processes of their own, which compute nothing but explorations
]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    sampling = [f"explore.questions={options.questions}", f"explore.samples={options.samples}"]
    config = load_config(options.run / "config.toml", [*SHORT, *sampling, *options.overrides])
    seconds: dict[str, list[float]] = {"in train": [], "alone": []}
    use: dict[str, list[float]] = {"in train": [], "alone": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, side in (("in train", in_train), ("alone", alone)):
                taken, busy = in_a_process(side, config, Path(folder))
                seconds[name].append(taken)
                use[name].append(busy)
                print(f"{name:>10}: {taken:7.2f} s, {busy:.2f} processors", flush=True)
    ratio = np.array(seconds["in train"]) / np.array(seconds["alone"])
    result = {
        "command": command_line(),
        "machine": {"cores": len(os.sched_getaffinity(0))},
        "settings": {"questions": options.questions, "samples": options.samples},
        "seconds": seconds,
        "processors_at_work": use,
        "in train / alone": [float(ratio.min()), float(np.median(ratio)), float(ratio.max())],
    }
    write_text(RESULTS / "e_step.json", json.dumps(result, indent=1) + "\n")
    print("in train / alone: {1:.3f} ({0:.3f} to {2:.3f})".format(*result["in train / alone"]))


def in_train(config: Config, folder: Path) -> tuple[float, float]:
    """Run the EM loop into a folder; return the seconds of its exploration and the processors at work in it."""
    measured: list[tuple[float, float]] = []

    def timed(*arguments: Any, **named: Any) -> Any:
        return measure(lambda: explore(*arguments, **named), measured)

    loop.explore = timed  # type: ignore[assignment]
    EMRun(config, folder / "run", lambda line: print(line, file=sys.stderr)).run()
    [found] = measured
    return found


def alone(config: Config, folder: Path) -> tuple[float, float]:
    """Explore the questions that the run in the folder has explored, anew; return the same."""
    run = folder / "run"
    asked = {line["question_id"] for line in read_jsonl(run / "iter-1" / "trajectories.jsonl", dict[str, Any])}
    questions = [question for question in read_questions(Path(config.data.train)) if question.id in asked]
    agents = load_agents(Experiment(config).with_model(run / "warmup"))
    few = msgspec.structs.replace(config.explore, samples=1)
    explore(agents, questions[:4], few, 0, folder / "few.jsonl")  # compiles, as evaluating has done in the run
    measured: list[tuple[float, float]] = []
    seed = derive_seed(config.seed, "iter-1") >> 1
    measure(lambda: explore(agents, questions, config.explore, seed, folder / "alone.jsonl"), measured)
    agents.close()
    [found] = measured
    return found


def measure(call: Any, measured: list[tuple[float, float]]) -> Any:
    """Make a call and note its seconds and the processors at work in it."""
    cpu, start = time.process_time(), time.monotonic()
    found = call()
    seconds = time.monotonic() - start
    measured.append((seconds, (time.process_time() - cpu) / seconds))
    return found


if __name__ == "__main__":
    main()
