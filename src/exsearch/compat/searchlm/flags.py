"""Flags that people add to the reference's commands: some have a meaning here, the others are refused with advice."""

import argparse
from typing import Any

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


def add_extra_flags(parser: argparse.ArgumentParser, boolean: dict[str, Any]) -> None:
    """Add the flags that have a meaning here; `boolean` are the options of a flag that is true or false."""
    add = parser.add_argument
    add("--weight_decay", type=float, default=0.0, help="weight decay of AdamW")
    add("--gradient_checkpointing", **boolean, help="recompute activations: half the memory, two thirds more time")
    add("--finetuning_type", default="", help="full (the default) or lora")
    add("--lora_rank", type=int, default=0, help=f"rank of a LoRA adapter, merged at the end; {_RANK} with lora alone")
    add("--save_total_limit", type=int, help="no effect: older resume points are removed anyway")


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
