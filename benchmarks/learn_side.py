"""One side of benchmarks/learn.py, in a process of its own: optimiser steps on the same trajectories, timed.

    python learn_side.py SIDE EXAMPLES.json MODEL --batch 8 --steps 2 --threads 2 --out FIGURES.json

The first step warms up and is not counted. Tokens are those of the trajectories, without padding; what several of
them have in common counts for each.
"""

import argparse
import importlib.metadata
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch

RATE = 1e-5


def main() -> None:
    """Train and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=list(SIDES))
    parser.add_argument("examples", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--lean", action="store_true", help="of exsearch: trade speed for memory")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    examples = json.loads(options.examples.read_text(encoding="utf-8"))
    need = options.batch * (options.steps + 1)
    examples = (examples * -(-need // len(examples)))[:need]
    tokens = [
        sum(len(e["token_ids"]) for e in examples[at : at + options.batch]) for at in range(0, need, options.batch)
    ]
    seconds, losses, packages = SIDES[options.side](examples, options)
    if len(seconds) != len(tokens):  # packs of other sizes
        tokens = [sum(tokens) // len(seconds)] * len(seconds)
    if os.environ.get("RANK", "0") == "0":
        figures = {
            "tokens_per_second": sum(tokens[1:]) / sum(seconds[1:]),
            "seconds": seconds,
            "tokens": tokens,
            "losses": losses,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", *packages)},
        }
        options.out.write_text(json.dumps(figures) + "\n", encoding="utf-8")


Result = tuple[list[float], list[float], list[str]]


def exsearch(examples: list[dict[str, Any]], options: argparse.Namespace) -> Result:
    """Train by exsearch's own trainer, on this process or on all that torchrun started."""
    import msgspec

    from exsearch.config import TrainingConfig
    from exsearch.training.example import Example
    from exsearch.training.learners.learner import TorchLearner
    from exsearch.training.loss import WeightedLoss
    from exsearch.training.ranks.ranks import joined_ranks
    from exsearch.training.trainer import accumulate_gradient, load_for_training

    config = TrainingConfig(normalise="token", learning_rate=RATE)
    if options.lean:
        config = msgspec.structs.replace(config, micro_batch_tokens=512, gradient_checkpointing=True)
    model, _ = load_for_training(options.model, config, 0)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    packed = [Example(e["token_ids"], e["loss_mask"], e["answer_start"]) for e in examples]
    seconds, losses = [], []
    with joined_ranks("cuda" if torch.cuda.is_available() else "cpu") as ranks:
        torch.nn.Module.to(model, ranks.device)
        learner = TorchLearner(WeightedLoss(model, config), config, ranks, dtype, sharded=False)
        for at in range(0, len(packed), options.batch):
            start = time.monotonic()
            sums = accumulate_gradient(learner, packed[at : at + options.batch], config, ranks)
            learner.step(RATE)
            seconds.append(time.monotonic() - start)
            losses.append(sums.per_token()["loss"])
    return seconds, losses, ["exsearch"]


def trainer(examples: list[dict[str, Any]], options: argparse.Namespace) -> Result:
    """Train by transformers' Trainer: padded, all tokens projected to the vocabulary, four trajectories per pass."""
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    class InOrder(Trainer):
        def _get_train_sampler(self, *ignored: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    clock = _clock()
    arguments = TrainingArguments(
        per_device_train_batch_size=4, gradient_accumulation_steps=options.batch // 4, **_arguments(options)
    )
    built = InOrder(
        AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
        arguments,
        DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(options.model), padding=True),
        [_features(example) for example in examples],
        callbacks=[clock],
    )
    built.train()
    return clock.seconds, clock.losses, ["accelerate"]


def trl(examples: list[dict[str, Any]], options: argparse.Namespace) -> Result:
    """Train by TRL's SFTTrainer with packing, at most 4,096 tokens per pass."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    clock = _clock()
    data = Dataset.from_list([{"input_ids": e["token_ids"], "completion_mask": e["loss_mask"]} for e in examples])
    arguments = SFTConfig(
        per_device_train_batch_size=1,
        packing=True,
        max_length=4096,
        gradient_accumulation_steps=1,
        completion_only_loss=True,
        **_arguments(options),
    )
    built = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
        arguments,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(options.model),
        callbacks=[clock],
    )
    built.train()
    return clock.seconds, clock.losses, ["trl", "accelerate"]


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(options.out.with_suffix(".trainer")),
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "bf16": options.precision == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
    }


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.losses: list[float] = []

        def on_step_begin(self, *ignored: Any, **more: Any) -> None:
            self.start = time.monotonic()

        def on_step_end(self, *ignored: Any, **more: Any) -> None:
            self.seconds.append(time.monotonic() - self.start)

        def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, float], **more: Any) -> None:
            if "loss" in logs:
                self.losses.append(logs["loss"])

    return Clock()


def _features(example: dict[str, Any]) -> dict[str, list[int]]:
    ids = example["token_ids"]
    labels = [token if mask else -100 for token, mask in zip(ids, example["loss_mask"], strict=True)]
    return {"input_ids": ids, "labels": labels, "attention_mask": [1] * len(ids)}


SIDES = {"exsearch": exsearch, "trainer": trainer, "trl": trl}

if __name__ == "__main__":
    main()
