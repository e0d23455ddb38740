"""Is the gradient of an optimiser step the same however its trajectories are computed?

    python benchmarks/gradients.py [--model builtin:smollm2-135m] [--ranks 2 4]

Eight weighted trajectories, gold ones of the built-in world, in float32. What they must come to is computed by
transformers alone, one trajectory after another with its own attention, the weighted cross-entropy written out. Beside
it stand the ways in which ours may compute the same step: in one pass, in several, in another order, on several ranks,
with copies of the model or with its parameters cut over the ranks, all weights or LoRA adapters. Told is the largest
difference of any element of the gradient, relative to the largest element, and of the gradient's norm. For what is
cut, the share of the parameters that lies on a rank is counted, not believed.

Prints a table and writes benchmarks/results/gradients.json. Without DeepSpeed, ZeRO is skipped.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from page import insert_table, rows
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from exsearch.agent.chat import ChatFormat
from exsearch.config import AgentConfig, TrainingConfig
from exsearch.core.atomic import write_text
from exsearch.corpus.store import write_corpus
from exsearch.engine.models.builtin import resolve_model
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.training.example import Example, example_from
from exsearch.training.learners.learner import Learner
from exsearch.training.loss import WeightedLoss
from exsearch.training.ranks.ranks import joined_ranks
from exsearch.training.trainer import accumulate_gradient, load_for_training, make_learner
from exsearch.warmup.write import gold_trajectories
from exsearch.world import World

RESULT = Path(__file__).parent / "results" / "gradients.json"
SEED = 1
WHOLE, SINGLE, HALVES = 100_000, 1, 1_000
"""Maximum tokens per pass: all trajectories in one, each in one of its own, a few together."""
Gradient = dict[str, torch.Tensor]


def main() -> None:
    """Compute the gradient every way and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--work", type=Path, default=Path("runs/gradients"))
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--on-rank", nargs=3, metavar=("SHARDING", "LORA", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    base = resolve_model(options.model)
    if options.on_rank:
        on_rank(base, options.work, *options.on_rank)
        return
    examples = prepare(base, options.work)
    found = [row for rank in (0, 8) for row in compare(base, examples, rank, options)]
    result = {
        "model": options.model,
        "trajectories": len(examples),
        "tokens": sum(len(example.token_ids) for example in examples),
        "rows": found,
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(table(result))
    insert_table("gradients", table(result))


def prepare(base: Path, work: Path) -> list[Example]:
    """Return weighted gold trajectories of two questions each, so that some begin alike; write them for the ranks."""
    file = work / "examples.json"
    if not file.exists():
        world, chat = World(SEED, 400), ChatFormat.load(base)
        index = build_index(write_corpus(work / "corpus", world.passages()), "bm25", work / "index")
        questions = list(world.questions("train", limit=60))
        gold = gold_trajectories(questions, open_index(index), chat, AgentConfig(passages=2, passage_tokens=80))[:4]
        pairs = [(trajectory, answer) for trajectory in gold for answer in (None, "I do not know.")]
        examples = [example_from(t, 0.2 + n / 8, answer, chat) for n, (t, answer) in enumerate(pairs)]
        write_text(file, msgspec.json.encode(examples).decode())
    return msgspec.json.decode(file.read_bytes(), type=list[Example])


def compare(base: Path, examples: list[Example], lora: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the difference of every way from the gradient written out, for full fine-tuning or adapters."""
    config = TrainingConfig(lora_rank=lora)
    expected = written_out(base, examples, config)
    kind = f"LoRA of rank {lora}" if lora else "full"
    ways = {
        "one pass": (examples, WHOLE),
        "a pass for each trajectory": (examples, SINGLE),
        "passes of a few": (examples, HALVES),
        "the same, in another order": (examples[::-1], HALVES),
    }
    found = []
    for name, (batch, most) in ways.items():
        gradient, _ = computed(base, batch, msgspec.structs.replace(config, micro_batch_tokens=most))
        found.append({"weights": kind, "way": name, "on a rank": 1.0, **difference(gradient, expected)})
    shardings = ["none", "fsdp"] + ["zero2", "zero3"] * (importlib.util.find_spec("deepspeed") is not None)
    for ranks, sharding in [(ranks, sharding) for ranks in options.ranks for sharding in shardings]:
        if ranks > 2 and sharding != "none":
            continue
        out = options.work / "gradient.safetensors"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", __file__]
        command += ["--model", options.model, "--work", str(options.work), "--on-rank", sharding, str(lora), str(out)]
        threads = str(max(1, len(os.sched_getaffinity(0)) // ranks))
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": threads})
        report = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
        row = {"weights": kind, "way": f"{ranks} ranks: {report['what']}", "on a rank": report["share"]}
        found.append(row | difference(load_file(out), expected))
    return found


def written_out(base: Path, examples: list[Example], config: TrainingConfig) -> Gradient:
    """Return the gradient of sum_k w_k (-log p of the loss tokens of k) / sum_k w_k tokens_k by transformers only."""
    model, _ = load_for_training(base, config, 0)
    model.set_attn_implementation("sdpa")
    mass = sum(example.weight * example.loss_tokens() for example in examples)
    for example in examples:
        ids = torch.tensor([example.token_ids])
        logits = model(ids).logits[0, :-1].float()
        nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        (example.weight * (nll * torch.tensor(example.loss_mask[1:])).sum() / mass).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def computed(base: Path, examples: list[Example], config: TrainingConfig) -> tuple[Gradient, Learner]:
    """Return the whole gradient of a step as the trainer computes it, and what computed it."""
    model, _ = load_for_training(base, config, 0)
    with joined_ranks("cpu") as ranks:
        learner = make_learner(WeightedLoss(model, config), config, ranks, torch.float32)
        accumulate_gradient(learner, examples, config, ranks)
        return {name: whole_gradient(p, config.sharding) for name, p in learner.parameters.items()}, learner


def whole_gradient(parameter: torch.nn.Parameter, sharding: str) -> torch.Tensor:
    """Return the gradient of a parameter that may be cut over the ranks."""
    if sharding.startswith("zero"):
        from deepspeed.utils import safe_get_full_grad

        found: torch.Tensor = safe_get_full_grad(parameter)
        return found
    gradient = parameter.grad
    assert gradient is not None
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient


def on_rank(base: Path, work: Path, sharding: str, lora: str, out: str) -> None:
    """Compute the gradient as one of several ranks; the first writes it."""
    config = TrainingConfig(lora_rank=int(lora), sharding=sharding, micro_batch_tokens=HALVES)
    gradient, learner = computed(base, prepare(base, work), config)
    if os.environ["RANK"] == "0":
        save_file({name: tensor.contiguous() for name, tensor in gradient.items()}, out)
        report = {"what": learner.description, "share": share_on_rank(learner)}
        Path(out).with_suffix(".json").write_text(json.dumps(report), encoding="utf-8")


def share_on_rank(learner: Learner) -> float:
    """Return the share of the elements of the trained parameters that this rank holds."""
    held = whole = 0
    for parameter in learner.parameters.values():
        cut = getattr(parameter, "ds_tensor", None)  # what ZeRO-3 leaves of a parameter
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter if cut is None else cut
        held += local.numel()
        whole += parameter.numel() if cut is None else getattr(parameter, "ds_numel")  # noqa: B009, unknown to torch
    return held / whole


def difference(found: Gradient, expected: Gradient) -> dict[str, float]:
    """Return how far two gradients are apart, relative to the one that is expected."""
    assert found.keys() == expected.keys()
    apart = max(float((found[name] - tensor).abs().max()) for name, tensor in expected.items())
    largest = max(float(tensor.abs().max()) for tensor in expected.values())
    norms = [sum(float(tensor.double().norm()) ** 2 for tensor in g.values()) ** 0.5 for g in (found, expected)]
    return {"largest difference": apart / largest, "of the norm": abs(norms[0] / norms[1] - 1)}


def table(result: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    heads = ["weights", "way", "parameters on a rank", "largest difference", "of the norm"]
    lines = [
        [
            row["weights"],
            row["way"],
            f"{row['on a rank']:.0%}",
            f"{row['largest difference']:.1e}",
            f"{row['of the norm']:.1e}",
        ]
        for row in result["rows"]
    ]
    about = f"`{result['model']}`, {result['trajectories']} trajectories, {result['tokens']:,} tokens, float32."
    return f"{about}\n\n{rows(heads, lines)}"


if __name__ == "__main__":
    main()
