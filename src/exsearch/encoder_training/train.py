"""Fine-tunes a token encoder: the passage that answers a query should score higher than all others of the batch.

The loss is the cross-entropy of the right passage among those of the batch and one hard negative per query, by MaxSim.
Passages of the batch that answer the same question are not used as negatives.

sentence-transformers has a trainer for such encoders. This one exists because it skips those passages, writes resume
points without pickle, and trains the embedded encoder with transformers only.
"""

import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import torch
from safetensors import SafetensorError

from exsearch.config import ModelConfig, TrainingConfig
from exsearch.core.atomic import atomic_path, behind_link, is_taken, remove
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.progress import progress
from exsearch.core.seeds import derive_seed
from exsearch.encoder_training.triples import TrainingSet, Triple
from exsearch.hardware.devices import pick_device, pick_dtype
from exsearch.processes import compute
from exsearch.retrieval.encoders.base import Checkpoint, Role
from exsearch.retrieval.encoders.batch import group_by_length, pad
from exsearch.retrieval.encoders.load import load_checkpoint
from exsearch.training.batches import steps_per_epoch
from exsearch.training.learners.learner import restore_torch, torch_state
from exsearch.training.resume import load_resume_point, save_resume_point
from exsearch.training.saving import JOB
from exsearch.training.trainer import LogStep, learning_rate

_MAX_TOKENS = 256
"""Maximum tokens of a passage, as in a `late` index."""
_FORWARD_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Maximum number of tokens of a forward pass, padding included."""
_SAMPLED_PASSAGES = 256


class RetrieverConfig(msgspec.Struct, frozen=True):
    """Settings for fine-tuning a token encoder."""

    scope: Literal["full", "projection"] = "projection"
    """`full` tunes the transformer; `projection` only a new linear map on top of it, which forgets less."""
    dimensions: int | None = None
    """Dimensions of the projection; None keeps the encoder's."""
    epochs: int = 1
    batch_size: int = 16
    """Triples per step: each has one right passage and one hard negative, and uses those of the others as negatives."""
    learning_rate: float | None = None
    """None means 2e-5 for `full` and 1e-3 for `projection`."""
    save_steps: int = 100
    """Steps between resume points."""


@compute.owned
def train_retriever(
    encoder: str,
    data: TrainingSet,
    output: Path,
    config: RetrieverConfig,
    model_config: ModelConfig,
    seed: int,
    log: LogStep,
    rewind: Callable[[int], None] = lambda step: None,
) -> None:
    """Fine-tune the encoder on triples, and write it to the folder `output`, which TokenEncoder loads.

    An output finished from the same inputs is not changed; raises UsageError if it is from other inputs. After an
    interruption, the same call resumes, and ends with the same weights. `log` is called with the step (from 1) and its
    figures, and `rewind` with the step from which a resumed run continues.
    """
    device, dtype = torch.device(pick_device(model_config)), pick_dtype(model_config)
    checkpoint = load_checkpoint(encoder)
    same = msgspec.structs.replace(config, save_steps=0)  # it changes no result, but earlier versions included it
    jobs = [fingerprint([checkpoint.hash, data, settings, seed, str(dtype)]) for settings in (same, config)]
    output = behind_link(output)
    if is_taken(output):
        if not (output / JOB).is_file() or read_json(output / JOB, dict[str, str]).get("job") not in jobs:
            raise UsageError(f"{output}: has other content, or was trained with other settings; choose another folder")
        return
    if config.scope == "projection":
        checkpoint = _with_projection(encoder, checkpoint, data, config.dimensions or checkpoint.dimensions, device)
    elif config.dimensions is not None:
        raise UsageError("dimensions apply only to a projection: set scope to projection, or do not set dimensions")
    network = checkpoint.network.to(device)
    parameters = _trained(network, config.scope)
    rate = config.learning_rate or {"full": 2e-5, "projection": 1e-3}[config.scope]
    schedule = TrainingConfig(learning_rate=rate)
    optimiser = torch.optim.AdamW(parameters.values(), lr=rate, weight_decay=0.0, fused=True)
    total = config.epochs * steps_per_epoch(len(data.triples), config.batch_size)
    resumed = output.with_name(f"{output.name}.resume")
    job = next((job for job in jobs if (resumed / job).exists()), jobs[0])
    points = resumed / job
    done = load_resume_point(points, parameters, partial(restore_torch, parameters, optimiser))
    rewind(done)
    with progress("retriever", total, done) as bar:
        for step in range(done, total):
            compute.check()
            torch.manual_seed(derive_seed(seed, "dropout", step))
            batch = _batch_of_step(data.triples, step, config.batch_size, seed)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(schedule, step, total)
            loss, right = contrastive_loss(checkpoint, batch, data.texts, device, dtype)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            log(step + 1, {"loss": round(loss.item(), 5), "right": round(right, 5)})
            bar.advance(1, f"loss {loss.item():.3f}")
            if (step + 1) % config.save_steps == 0 and step + 1 < total:
                save_resume_point(points, step + 1, torch_state(parameters, optimiser))
    network.cpu()
    _save(checkpoint, output, job)
    remove(points.parent)


Batch = list[tuple[Triple, str | None]]
"""Triples, each with its hard negative of this epoch, if it has one."""


def contrastive_loss(
    checkpoint: Checkpoint, batch: Batch, texts: dict[str, str], device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, float]:
    """Return the mean cross-entropy of a batch, and the share of its queries that score the right passage highest."""
    ids = list(dict.fromkeys(id for triple, negative in batch for id in (triple.passage, negative) if id is not None))
    column = {id: number for number, id in enumerate(ids)}
    queries, query_counts = _vectors(checkpoint, [triple.query for triple, _ in batch], "query", device, dtype)
    passages, passage_counts = _vectors(checkpoint, [texts[id] for id in ids], "document", device, dtype)
    scores = max_similarity(queries, query_counts, passages, passage_counts)
    targets = torch.tensor([column[triple.passage] for triple, _ in batch], device=device)
    excluded = torch.zeros_like(scores, dtype=torch.bool)
    for row, (triple, _) in enumerate(batch):
        excluded[row, [column[id] for id in triple.gold if id in column and id != triple.passage]] = True
    scores = scores.masked_fill(excluded, -torch.inf)
    right = (scores.argmax(dim=1) == targets).float().mean()
    return torch.nn.functional.cross_entropy(scores, targets), right.item()


def max_similarity(
    queries: torch.Tensor, query_counts: torch.Tensor, passages: torch.Tensor, passage_counts: torch.Tensor
) -> torch.Tensor:
    """Return MaxSim, [queries, passages], for vectors [.., tokens, dimensions] and which of them count [.., tokens]."""
    similarity = torch.einsum("qid,pjd->qpij", queries, passages)
    # a passage without a word gets the lowest possible score
    best = similarity.masked_fill(~passage_counts[None, :, None, :], -1.0).amax(dim=3)
    return (best * query_counts[:, None, :]).sum(dim=2)


def _vectors(
    checkpoint: Checkpoint, texts: list[str], role: Role, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors, [texts, tokens, dimensions] in float32, and which of them count, [texts, tokens]."""
    rows = checkpoint.read(texts, role, _MAX_TOKENS)
    counted = torch.from_numpy(pad(rows, checkpoint.pad_id).counted).to(device)
    vectors: dict[int, torch.Tensor] = {}
    for group in group_by_length(rows, _FORWARD_TOKENS[device.type]):
        batch = pad([rows[number] for number in group], checkpoint.pad_id)
        ids, attended = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.attended).long().to(device)
        with torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext():
            states = checkpoint.network(ids, attended)
        states = torch.nn.functional.pad(states, (0, 0, 0, counted.shape[1] - states.shape[1]))
        vectors |= zip(group, states, strict=True)
    return torch.stack([vectors[number] for number in range(len(rows))]), counted


def _batch_of_step(triples: list[Triple], step: int, batch_size: int, seed: int) -> Batch:
    """Return the triples of a step, counted from 0 over all epochs; depends only on the seed and the step."""
    epoch, number = divmod(step, steps_per_epoch(len(triples), batch_size))
    draw = random.Random(derive_seed(seed, "order", epoch))
    order = [(triple, draw.choice(triple.negatives) if triple.negatives else None) for triple in triples]
    draw.shuffle(order)
    return order[number * batch_size : (number + 1) * batch_size]


def _trained(network: torch.nn.Module, scope: str) -> dict[str, torch.nn.Parameter]:
    """Make the network ready for training, and return the parameters to train."""
    network.train(scope == "full")  # a frozen transformer needs no dropout
    if scope == "projection":
        network.requires_grad_(False)
        network.layers[-1].requires_grad_(True)  # type: ignore[index]
    # poolers are not used for token embeddings
    return {name: p for name, p in network.named_parameters() if p.requires_grad and ".pooler." not in name}


@torch.no_grad()
def _with_projection(
    encoder: str, checkpoint: Checkpoint, data: TrainingSet, dimensions: int, device: torch.device
) -> Checkpoint:
    """Return the encoder with a new linear map on top: the principal axes of its vectors for some of the passages."""
    from exsearch.retrieval.encoders.colbert import add_projection

    if not 1 <= dimensions <= checkpoint.dimensions:
        raise UsageError(f"{dimensions} dimensions: must be 1 to {checkpoint.dimensions}, what encoder {encoder!r} has")
    checkpoint.network.to(device).eval()
    texts = list(data.texts.values())[:_SAMPLED_PASSAGES]
    vectors, counted = _vectors(checkpoint, texts, "document", device, torch.float32)
    sample = vectors[counted]
    # not centred, to preserve inner products rather than distances from the mean
    axes = torch.linalg.eigh(sample.T @ sample).eigenvectors[:, -dimensions:].T
    checkpoint.network.cpu()
    return add_projection(encoder, checkpoint, axes.cpu())


def _save(checkpoint: Checkpoint, output: Path, job: str) -> None:
    """Write the encoder's folder; nothing of it is left if the disk is full."""
    try:
        with atomic_path(output) as temporary:
            temporary.mkdir()
            checkpoint.save(temporary)
            write_json(temporary / JOB, {"job": job})
    except SafetensorError as error:  # safetensors' form of an operating-system error
        raise ExSearchError(f"{output}: cannot write the encoder: {error}") from error
