"""Common part of `PROCEDURE=sft` and `PROCEDURE=align`: reads conversations, converts flags to settings, trains.

The flags are those of the reference's README. Flags for what the trainer decides itself are checked against it. The
same command resumes an interrupted run, with or without `--resume_from_checkpoint`.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.compat.searchlm.flags import extra_settings
from exsearch.compat.searchlm.formats import Message
from exsearch.config import ModelConfig, TrackingConfig, TrainingConfig, apply_override
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json
from exsearch.core.shape import ShapeError, convert
from exsearch.engine.models.builtin import resolve_model
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.learners.zero_settings import read_zero_settings
from exsearch.training.logged import train_logged
from exsearch.training.ranks.ranks import is_first
from exsearch.training.trainer import resume_folder


class TrainingConversation(msgspec.Struct, frozen=True):
    """One conversation of a training file."""

    messages: list[Message]
    prob: float | None = None
    """Weight, for `align`."""


def finetune(options: argparse.Namespace, label: str, weighted: bool) -> None:
    """Fine-tune with the settings of the flags, on this rank. Raises UsageError."""
    zero = read_zero_settings(options.deepspeed) if options.deepspeed else {}
    config, model = training_config(options, zero), model_config(options, zero)
    check_resume(options.resume_from_checkpoint, options.output_dir)
    conversations = read_json(options.dataset_name_or_path, list[TrainingConversation])[: options.max_samples]
    base = resolve_model(options.model_name_or_path)
    chat = ChatFormat.load(base)
    examples = []
    for number, conversation in enumerate(conversations):
        where = f"{options.dataset_name_or_path}, entry {number}"
        example = example_of(conversation, weighted, chat, where)
        examples.append(cut_off(example, options.cutoff_len))
    trainable = [example for example in examples if example.loss_tokens() and example.weight > 0]
    if not trainable:
        raise UsageError(
            f"{options.dataset_name_or_path}: none of {len(examples)} conversations has a weight and, within "
            f"cutoff_len = {options.cutoff_len}, a token to learn"
        )
    if is_first() and len(trainable) < len(examples):
        print(f"{len(examples) - len(trainable)} of {len(examples)} conversations have nothing to learn from, skipped")
    output: Path = options.output_dir
    job = Job.of(base, trainable, output, config, model, options.seed, label)
    metrics = train_logged(job, tracking_config(options))
    if is_first():
        print(f"{output}: checkpoint after {len(trainable)} conversations; figures in {metrics}")


def training_config(options: argparse.Namespace, zero: dict[str, Any]) -> TrainingConfig:
    """Return the trainer's settings for the flags; `zero` is the content of DeepSpeed's file, if one is given."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if options.num_train_epochs != int(options.num_train_epochs):
        raise UsageError(f"--num_train_epochs {options.num_train_epochs}: must be a whole number")
    tree: dict[str, Any] = {
        "epochs": int(options.num_train_epochs),
        "batch_size": options.per_device_train_batch_size * options.gradient_accumulation_steps * world,
        "micro_batch_tokens": options.per_device_train_batch_size * options.cutoff_len,
        "learning_rate": options.learning_rate,
        "max_grad_norm": 1.0,  # the default of the reference's trainer, per token as here
        **extra_settings(options),
        "save_steps": options.save_steps,
        "sharding": f"zero{zero['zero_optimization']['stage']}" if zero else "none",
        "deepspeed": options.deepspeed,
    }
    for override in options.set:
        apply_override(tree, override)
    try:
        return convert(tree, TrainingConfig)
    except ShapeError as error:
        raise UsageError(f"a flag is out of range: {error}") from None


def model_config(options: argparse.Namespace, zero: dict[str, Any]) -> ModelConfig:
    """Return the precision for the flags. Raises UsageError if DeepSpeed's JSON contradicts them."""
    if options.bf16 is None:
        return ModelConfig()
    enabled = zero.get("bf16", {}).get("enabled", options.bf16)
    if enabled != options.bf16:
        raise UsageError(f"{options.deepspeed}: bf16.enabled is {enabled}, and --bf16 says {options.bf16}")
    return ModelConfig(precision="bf16" if options.bf16 else "fp32")


def tracking_config(options: argparse.Namespace) -> TrackingConfig:
    """Return the trackers that the flags name."""
    names = [name for name in options.report_to.split(",") if name and name != "none"]
    try:
        return convert({"report_to": names, "name": options.run_name}, TrackingConfig)
    except ShapeError as error:
        raise UsageError(f"--report_to {options.report_to}: {error}") from None


def check_resume(folder: str, output: Path) -> None:
    """Raise UsageError if `--resume_from_checkpoint` names something that cannot be resumed."""
    if not folder or folder.lower() == "false":
        return
    points = resume_folder(output)
    if folder.lower() != "true" and Path(folder).resolve() not in (output.resolve(), points.resolve()):
        raise UsageError(f"--resume_from_checkpoint {folder}: name the output folder, {output}")
    if not output.exists() and not any(points.glob("*/step-*.safetensors")):
        raise UsageError(f"--resume_from_checkpoint {folder}: there is nothing to resume; remove the flag")


def example_of(conversation: TrainingConversation, weighted: bool, chat: ChatFormat, where: str) -> Example:
    """Return a conversation as an example, with loss on the model's turns. Raises UsageError naming `where` it is."""
    roles = [message.role for message in conversation.messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise UsageError(f"{where}: messages must be user, assistant, user, ... and end with assistant, not {roles}")
    if weighted == (conversation.prob is None):
        fault = "no prob: weigh it with PROCEDURE=entropy, or use sft" if weighted else "a prob: use PROCEDURE=align"
        raise UsageError(f"{where}: has {fault}")
    weight = 1.0 if conversation.prob is None else conversation.prob
    if not 0 <= weight < float("inf"):
        raise UsageError(f"{where}: prob is {weight}, which is not a valid weight")
    ids: list[int] = []
    mask: list[int] = []
    for message in conversation.messages:
        if message.role == "user":
            new = chat.next_prompt(message.content) if ids else chat.first_prompt(message.content)
        else:
            thought, answer = chat.retold_ids(message.content)
            start, new = len(ids) + len(thought), thought + answer
        ids += new
        mask += [int(message.role == "assistant")] * len(new)
    return Example(ids, mask, start, weight, question_id=conversation.messages[0].content)


def cut_off(example: Example, length: int) -> Example:
    """Return the first `length` tokens of an example."""
    return replace(example, token_ids=example.token_ids[:length], loss_mask=example.loss_mask[:length])
