"""The M-step beside the trainers that people use: tokens per second and memory, on the same trajectories.

    make quickstart
    python benchmarks/learn.py --wiki-mini DIR [--run runs/quickstart] [--trl PYTHON]

The trajectories are real: the quickstart's last model explores training questions of HotpotQA over real passages,
K = 4.
The sides take turns, round after round, each in a process of its own:

* `ours`: exsearch, two threads; `ours, 2 ranks`: two processes of one thread each, by torchrun; `ours, lean`: gradient
  checkpointing and passes of 512 tokens.
* `trainer`: transformers' Trainer, padded, all tokens projected to the vocabulary, four trajectories per pass.
* `trl`: TRL's SFTTrainer with packing, in the environment that --trl names.

All start from the same weights, in float32, full fine-tuning, AdamW, batches of 8 trajectories of weight 1; the
forward pass is in bfloat16 where that is faster, or as --precision says. Tokens are those of the trajectories, without
padding. The loss of the first step shows that the sides learn the same; TRL's packs are no batches of 8.

What `ours` can reach beside `trainer` is bounded by the arithmetic: by the tokens that each passes through the layers
and projects to the vocabulary, where both run at one speed. The bound is reported beside the ratio.

Prints a table and writes benchmarks/results/learn.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from page import command_line, insert_table, rows
from retrieval_data import load_set
from transformers import AutoConfig, AutoModel

from exsearch.agent.agents import load_agents
from exsearch.agent.chat import ChatFormat
from exsearch.agent.experiment import Experiment
from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config, load_config
from exsearch.core.atomic import write_text
from exsearch.core.jsonl import read_jsonl
from exsearch.em.explore import explore
from exsearch.em.learn import weighted_examples
from exsearch.em.weigh import weigh
from exsearch.hardware.devices import bfloat16_is_fast
from exsearch.questions.question import Question
from exsearch.retrieval.index.build import build_index
from exsearch.training.example import Example
from exsearch.training.packing.tree import grow

HERE = Path(__file__).parent
RESULT = HERE / "results" / "learn.json"
SIDE = HERE / "learn_side.py"
LEAN = ("ours", "ours, lean")
"""Sides whose memory is compared."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wiki-mini", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--work", type=Path, default=Path("runs/learn"))
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16" if bfloat16_is_fast(DEVICE) else "fp32")
    parser.add_argument("--trl", type=Path, help="python of an environment with trl, datasets and transformers")
    options = parser.parse_args()
    model = sorted(options.run.glob("iter-*/checkpoint"))[-1]
    examples = prepare(options, model)
    if len(examples) < options.batch * (options.steps + 1):
        sys.exit(
            f"only {len(examples)} trajectories for {options.steps + 1} batches of {options.batch}: more --questions"
        )
    data = options.work / "examples.json"
    sides: dict[str, list[str]] = {
        "ours": [sys.executable, str(SIDE), "exsearch", "--threads", "2"],
        "ours, 2 ranks": [*torchrun(2), str(SIDE), "exsearch", "--threads", "1"],
        "ours, lean": [sys.executable, str(SIDE), "exsearch", "--lean", "--threads", "2"],
        "trainer": [sys.executable, str(SIDE), "trainer", "--threads", "2"],
    }
    if options.trl:
        sides["trl"] = [str(options.trl), str(SIDE), "trl", "--threads", "2"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, command in sides.items():
            found[name].append(measure(command, data, model, options))
            print(f"round {number + 1}, {name}: {found[name][-1]['tokens_per_second']:.0f} tokens/s", flush=True)
    timed = examples[options.batch : options.batch * (options.steps + 1)]
    result = {
        "command": command_line(),
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "trajectories": {
            "count": len(examples),
            "tokens": statistics.mean(len(example.token_ids) for example in examples),
            "loss_tokens": statistics.mean(example.loss_tokens() for example in examples),
        },
        "arithmetic": arithmetic(timed, options.batch, model),
        "batch": options.batch,
        "precision": options.precision,
        "sides": found,
        "ratios": {f"ours / {name}": ratio(found, "ours", name) for name in sides if name in ("trainer", "trl")}
        | {"ours, 2 ranks / ours": ratio(found, "ours, 2 ranks", "ours")}
        | {f"peak memory, {name} / trainer": ratio(found, name, "trainer", "peak_bytes") for name in LEAN},
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(table(result))
    insert_table("learn", table(result))


def torchrun(ranks: int) -> list[str]:
    """Return the command that starts ranks on this machine."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]


def prepare(options: argparse.Namespace, model: Path) -> list[Example]:
    """Explore once; return the trajectories that an M-step would learn from, and write them down for the sides."""
    data = options.work / "examples.json"
    if data.exists():
        return msgspec.json.decode(data.read_bytes(), type=list[Example])
    corpus, _ = load_set("wiki-mini", options.work, options.wiki_mini)
    if not (options.work / "index").exists():
        build_index(corpus, "bm25", options.work / "index")
    records = json.loads((options.wiki_mini / "hotpotqa_train.json").read_text(encoding="utf-8"))
    questions = [Question(r["_id"], r["question"], [r["answer"]]) for r in records[: options.questions]]
    wider = ["agent.passages=3", "agent.passage_tokens=160", "agent.context=4096", "agent.turn_tokens=64"]
    wider.append("weigh.gate=none")  # it is speed that counts here, not what is worth learning
    config: Config = load_config(options.run / "config.toml", wider)
    journal = options.work / "trajectories.jsonl"
    named = msgspec.structs.replace(config.data, index=str(options.work / "index"))
    agents = load_agents(Experiment(msgspec.structs.replace(config, data=named)).with_model(model))
    trajectories = explore(agents, questions, config.explore, config.seed, journal)
    agents.close()
    weights = weigh(trajectories, questions, config.weigh)
    chat = ChatFormat.load(model)
    examples = weighted_examples(read_jsonl(journal, Trajectory), weights, chat, config.learn)
    data.write_bytes(msgspec.json.encode(examples))
    return examples


def measure(command: list[str], data: Path, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one side; return its figures."""
    out = options.work / "figures.json"
    out.unlink(missing_ok=True)
    words = [str(data), str(model), "--batch", str(options.batch), "--steps", str(options.steps), "--out", str(out)]
    words += ["--precision", options.precision]
    log = options.work / "side.log"
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run([*command, *words], stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: see {log}")
    figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return figures


def ratio(
    found: dict[str, list[dict[str, Any]]], above: str, below: str, figure: str = "tokens_per_second"
) -> list[float]:
    """Return the least, median and largest ratio of a figure of the rounds."""
    pairs = zip(found[above], found[below], strict=True)
    values = sorted(a[figure] / b[figure] for a, b in pairs)
    return [values[0], statistics.median(values), values[-1]]


def arithmetic(examples: list[Example], batch: int, model: Path) -> dict[str, float]:
    """Return the share of the tokens that each side computes, and how many times as fast that could make us.

    Attention itself is not counted: at some hundred tokens it is a few hundredths of the rest.
    """
    config = AutoConfig.from_pretrained(model)
    head = config.vocab_size * config.hidden_size
    with torch.device("meta"):
        trunk = sum(weight.numel() for weight in AutoModel.from_config(config).parameters()) - head
    tokens = sum(len(example.token_ids) for example in examples)
    packed = sum(len(grow(examples[at : at + batch]).token_ids) for at in range(0, len(examples), batch))
    passes = [[len(e.token_ids) for e in examples[at : at + 4]] for at in range(0, len(examples), 4)]
    padded = sum(max(lengths) * len(lengths) for lengths in passes)
    ours = packed * trunk + sum(example.loss_tokens() for example in examples) * head
    return {
        "ours": packed / tokens,
        "trainer": padded / tokens,
        "head": head / (head + trunk),
        "bound": padded * (trunk + head) / ours,
    }


def table(result: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    shape, share = result["trajectories"], result["arithmetic"]
    about = (
        f"`{result['command']}`: {shape['count']} trajectories of {shape['tokens']:.0f} tokens, "
        f"{shape['loss_tokens']:.0f} of them with loss; {result['machine']['cores']} cores, {result['precision']}. "
        f"Of the tokens the packed tree computes {share['ours']:.0%} and the padded batches {share['trainer']:.0%}. "
        f"The projection to the vocabulary is {share['head']:.0%} of a token's work, and ours projects only tokens "
        f"with loss. By the number of products, ours / trainer is {share['bound']:.2f} at most."
    )
    lines = [
        [
            name,
            f"{statistics.median(one['tokens_per_second'] for one in rounds):.0f}",
            f"{max(one['peak_bytes'] for one in rounds) / 1e9:.2f}",
            f"{rounds[0]['losses'][0]:.4f}",
        ]
        for name, rounds in result["sides"].items()
    ]
    ratios = [
        [name, f"{middle:.2f} ({least:.2f} to {most:.2f})"] for name, (least, middle, most) in result["ratios"].items()
    ]
    return "\n\n".join(
        [
            about,
            rows(["", "tokens/s, median", "peak GB of a process", "loss of the first step"], lines),
            rows(["", "median (minimum to maximum over the rounds)"], ratios),
        ]
    )


if __name__ == "__main__":
    main()
