"""The flags of the reference's commands, and those that people add: some have a meaning here, others are refused.

Without torch, so that a mistyped flag is known before it is imported.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from exsearch.config.sections import WeightingName
from exsearch.core.errors import UsageError

NO_INDEX = "name the index: --index FOLDER or URL, or API_SEARCH=http://HOST:PORT"
REFUSED = {
    "--fp16": "float16 is not trained in; use --bf16 True, or neither for float32 where bfloat16 is slower",
    "--tf32": "products are computed in float32 or bfloat16; remove the flag",
    "--flash_attn": "the fastest attention that keeps the model's results is chosen by itself; remove the flag",
    "--template": "the model's own chat template is used; remove the flag, or change that template",
    "--max_steps": "set the number of passes, --num_train_epochs, or of conversations, --max_samples",
    "--ddp_timeout": "processes wait for each other as long as torch lets them; remove the flag",
    "--logging_dir": "figures go to OUTPUT_DIR.metrics.jsonl and to what --report_to names; remove the flag",
}
"""Flags without a counterpart, and what to do instead."""
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}
"""The learning rate's schedule by the name that transformers gives it."""
_RANK = 8
"""Rank of an adapter if none is named."""


def boolean(word: str) -> bool:
    """Parse a flag's value as the reference's users write it."""
    if word.lower() in ("true", "1", "yes"):
        return True
    if word.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{word!r} is neither True nor False")


BOOLEAN: dict[str, Any] = {"type": boolean, "nargs": "?", "const": True, "default": None}


def add_exploring(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `inference`: the reference's, and those for constants of its code."""
    add = parser.add_argument
    add("--model_name_or_path", required=True)
    add("--input_file", type=Path, required=True, help="questions: query_id, question, answer")
    add("--output_dir", type=Path, required=True)
    add("--left", type=int, default=0, help="first question")
    add("--right", type=int, help="question to stop before")
    add("--index", help="index folder or URL of a server; default: API_SEARCH of the environment")
    add("--samples", type=int, default=1, help="trajectories per question")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of a recipe")


def add_weighing(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `entropy`: the reference's, and the choice of another weighting."""
    add = parser.add_argument
    add("--model_name_or_path", required=True)
    add("--inference_file", type=Path, required=True, help="output of inference")
    add("--output_dir", type=Path, required=True)
    add("--epo", type=int, required=True, help="number of the iteration, for the output's name")
    add("--weighting", choices=get_args(WeightingName), default="reference-v1")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of a recipe")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `sft` and `align`: the reference's, and those that people add."""
    add = parser.add_argument
    add("--model_name_or_path", required=True)
    add("--dataset_name_or_path", type=Path, required=True, help="JSON list of conversations")
    add("--output_dir", type=Path, required=True, help="checkpoint folder to write")
    add("--deepspeed", default="", help="DeepSpeed's JSON, with zero_optimization.stage 2 or 3")
    add("--overwrite_cache", **BOOLEAN, help="no effect: nothing is cached")
    add("--warmup_ratio", type=float, default=0.0)
    add("--report_to", default="none", help="wandb, tensorboard, trackio or none; several with commas")
    add("--run_name", default="")
    add("--logging_steps", type=int, default=1, help="no effect: every step is logged")
    add("--cutoff_len", type=int, default=8192, help="maximum number of tokens of a conversation; the rest is cut off")
    add("--max_samples", type=int, help="maximum number of conversations, from the start of the file")
    add("--save_steps", type=int, default=200, help="steps between resume points")
    add("--per_device_train_batch_size", type=int, default=1)
    add("--gradient_accumulation_steps", type=int, default=1)
    add("--learning_rate", type=float, default=5e-5)
    add("--num_train_epochs", type=float, default=3.0)
    add("--lr_scheduler_type", default="cosine", help="cosine, linear, constant or constant_with_warmup")
    add("--bf16", **BOOLEAN, help="forward pass in bfloat16; by default where the hardware supports it")
    add(
        "--resume_from_checkpoint", default="", help="the output folder: resume, and fail if there is nothing to resume"
    )
    add("--seed", type=int, default=0)
    add("--weight_decay", type=float, default=0.0, help="weight decay of AdamW")
    add("--gradient_checkpointing", **BOOLEAN, help="recompute activations: half the memory, two thirds more time")
    add("--finetuning_type", default="", help="full (the default) or lora")
    add("--lora_rank", type=int, default=0, help=f"rank of a LoRA adapter, merged at the end; {_RANK} with lora alone")
    add("--save_total_limit", type=int, help="no effect: older resume points are removed anyway")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of learn, such as lora_rank=8")


FLAGS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "sft": add_training,
    "inference": add_exploring,
    "entropy": add_weighing,
    "align": add_training,
}
"""What adds the flags of each procedure."""
READ = ("input_file", "inference_file", "dataset_name_or_path")
"""Options with a file to read."""


def extra_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the trainer's settings for these flags, and for the schedule. Raises UsageError."""
    kind, rank, schedule = options.finetuning_type, options.lora_rank, options.lr_scheduler_type
    if kind not in ("", "full", "lora"):
        raise UsageError(f"--finetuning_type {kind}: is full or lora; to keep lower layers, --set frozen_layers=N")
    if kind == "full" and rank:
        raise UsageError(f"--finetuning_type full has no adapter; remove --lora_rank {rank}, or use lora")
    if schedule not in SCHEDULES:
        raise UsageError(f"--lr_scheduler_type {schedule}: is one of {', '.join(SCHEDULES)}")
    return {
        "schedule": SCHEDULES[schedule],
        # as in transformers, where only constant_with_warmup rises first
        "warmup_ratio": 0.0 if schedule == "constant" else options.warmup_ratio,
        "weight_decay": options.weight_decay,
        "gradient_checkpointing": bool(options.gradient_checkpointing),
        "lora_rank": rank or (_RANK if kind == "lora" else 0),
    }
