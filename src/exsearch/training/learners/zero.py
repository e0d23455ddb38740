"""DeepSpeed's ZeRO as a learner.

DeepSpeed's engine is used directly: the common wrappers silently leave parameters whole on CPU ranks.
"""

import os
from collections.abc import Iterator
from typing import Any

import torch

from exsearch.config import TrainingConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.training.learners.learner import MOMENTS, trained
from exsearch.training.learners.zero_settings import read_zero_settings
from exsearch.training.loss import Packed, Packing, WeightedLoss
from exsearch.training.ranks.ranks import Ranks
from exsearch.training.resume import Read


class ZeroLearner:
    """AdamW by DeepSpeed, sharded over the ranks (ZeRO-2: moments and gradients; ZeRO-3: also weights)."""

    def __init__(self, loss: WeightedLoss, config: TrainingConfig, ranks: Ranks, dtype: torch.dtype) -> None:
        """Take a model with float32 weights. Raises UsageError without DeepSpeed, or for an invalid JSON file of its
        settings.
        """
        stage = self._stage = int(config.sharding.removeprefix("zero"))
        if ranks.device == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported; there is no setting for it
        try:
            import deepspeed
        except ImportError:
            raise UsageError("ZeRO needs DeepSpeed: pip install 'exsearch[deepspeed]'") from None
        self._ranks = ranks
        self.parameters = trained(loss)
        self.packing: Packing = loss.packing
        optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        rounds = dtype == torch.bfloat16
        exact = {name: each.detach().float().cpu().clone() for name, each in self.parameters.items()} if rounds else {}
        self._engine, *_ = deepspeed.initialize(
            model=loss,
            optimizer=optimiser,
            dist_init_required=False,
            config=_settings(config, ranks, dtype, stage),
        )
        if stage == 3 and not all(hasattr(parameter, "ds_tensor") for parameter in self.parameters.values()):
            raise ExSearchError("ZeRO-3 is set, but the parameters are not sharded over the ranks")
        for name, weight in exact.items():  # DeepSpeed rounded the model before it copied its float32 weights
            self._set_float32(self.parameters[name], weight)
        sharded = "weights, gradients and moments" if stage == 3 else "gradients and moments"
        self.description = f"DeepSpeed ZeRO-{stage}, {sharded} sharded over {ranks.count} ranks on {ranks.device}"

    def accumulate(self, packed: Packed, factor: float, last: bool) -> torch.Tensor:
        """Run forward and backward; DeepSpeed averages the gradients of ranks."""
        self._engine.set_gradient_accumulation_boundary(last)
        loss, sums = self._engine(packed)
        self._engine.backward(loss * (factor * self._ranks.count), scale_wrt_gas=False)
        all_sums: torch.Tensor = sums
        return all_sums

    def measure(self, packed: Packed) -> torch.Tensor:
        """Run forward."""
        with torch.no_grad():
            measured: torch.Tensor = self._engine(packed)[1]
        return measured

    def step(self, rate: float) -> float:
        """Clip, step, and clear the gradient."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the trained weights."""
        from deepspeed.utils import safe_get_full_fp32_param

        for name, parameter in self.parameters.items():
            yield name, safe_get_full_fp32_param(parameter).cpu()

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield weights, then moments."""
        from deepspeed.utils import safe_get_full_optimizer_state

        for name, tensor in self.weights():
            yield f"weight/{name}", tensor
            for moment in MOMENTS:
                yield f"{moment}/{name}", safe_get_full_optimizer_state(self.parameters[name], moment).cpu()

    def restore(self, step: int, read: Read) -> None:
        """Set weights and moments."""
        import deepspeed
        from deepspeed.utils import safe_set_full_optimizer_state

        self._make_moments(step)
        for name, parameter in self.parameters.items():
            weight = read(f"weight/{name}")
            assert weight is not None, "checked when the resume point was opened"
            self._set_float32(parameter, weight)
            # The next forward pass uses a copy, which DeepSpeed updates only after a step.
            with torch.no_grad(), deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                parameter.copy_(weight)
            for moment in MOMENTS:
                safe_set_full_optimizer_state(parameter, read(f"{moment}/{name}"), moment)

    def _set_float32(self, parameter: torch.nn.Parameter, weight: torch.Tensor) -> None:
        """Set the weight that the optimiser updates; the forward pass uses a rounded copy of it."""
        from deepspeed.utils import safe_set_full_fp32_param

        safe_set_full_fp32_param(parameter, weight)

    def _make_moments(self, step: int) -> None:
        """Create AdamW's moments as zeros, as its first step would: DeepSpeed can only fill existing ones."""
        zero = self._engine.optimizer
        shards = zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups
        for part in shards:
            moments = {moment: torch.zeros_like(part) for moment in MOMENTS}
            zero.optimizer.state[part] = {"step": torch.tensor(float(step)), **moments}
        if self._stage == 2:
            zero._lazy_init_hp_params_optimizer_state()


def _settings(config: TrainingConfig, ranks: Ranks, dtype: torch.dtype, stage: int) -> dict[str, Any]:
    """Return DeepSpeed's settings: the file's, and those that the trainer decides itself."""
    settings = read_zero_settings(config.deepspeed) if config.deepspeed else {}
    return settings | {
        "train_batch_size": ranks.count,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": settings.get("zero_optimization", {}) | {"stage": stage},
        "bf16": {"enabled": dtype == torch.bfloat16},
        "zero_allow_untested_optimizer": True,
    }
