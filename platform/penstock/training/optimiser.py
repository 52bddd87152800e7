"""How weights move: the optimisers, the learning rate by step, the averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from penstock.config import Optim
from penstock.errors import ConfigError
from penstock.training.rowwise import RowwiseAdagrad


def build(optim: Optim, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """A fresh optimiser for `parameters`; the loop sets its learning rate at each step."""
    # fused: one call for all parameters, a fifth of the time of torch's default on a CPU
    match optim.kind:
        case "sgd":
            return torch.optim.SGD(
                parameters, optim.lr, optim.momentum, weight_decay=optim.weight_decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(
                parameters, optim.lr, optim.betas, weight_decay=optim.weight_decay, fused=True
            )
        case "adamw":
            return torch.optim.AdamW(
                parameters, optim.lr, optim.betas, weight_decay=optim.weight_decay, fused=True
            )
        case "rowwise_adagrad":
            if any(hasattr(parameter, "full_tensor") for parameter in parameters):
                raise ConfigError(
                    "optim.kind = 'rowwise_adagrad' does not go with strategy 'fsdp'; use 'exact' or 'ddp'"
                )
            return RowwiseAdagrad(parameters, optim.lr, optim.weight_decay)


def rate(optim: Optim, step: int, total: int) -> float:
    """The learning rate of `step` (from 0) in a run of `total` steps; the whole schedule is this function."""
    return rate_at(optim, step, (step - optim.warmup_steps) / max(total - optim.warmup_steps, 1))


def rate_at(optim: Optim, step: int, done: float) -> float:
    """The same where not steps but time may end a run. `done`: the share that lies behind, after warm-up."""
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    match optim.schedule:
        case "constant":
            share = 1.0
        case "cosine":
            share = 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
        case "linear":
            share = 1.0 - min(done, 1.0)
    return optim.lr * (optim.final_lr + (1.0 - optim.final_lr) * share)


def clip(gradients: list[Tensor], limit: float) -> None:
    """Scale `gradients` in place so that their norm together is at most `limit`; 0 leaves them alone."""
    if limit <= 0.0:
        return
    norm = torch.nn.utils.get_total_norm(gradients)
    if hasattr(norm, "full_tensor"):
        # sharded gradients take a number only, not a tensor of another kind
        scale = min(1.0, limit / (float(norm.full_tensor()) + 1e-6))
        torch._foreach_mul_(gradients, scale)
    else:
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))


class Average:
    """Exponentially averaged weights (EMA): the ones that are validated and published when it is on.

    The decay rises to its value as (1 + step) / (10 + step), so that a short run is not left with its
    first weights.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.names = list(parameters)
        self.tensors = [parameter.detach().clone() for parameter in parameters.values()]
        self._live = [parameter.detach() for parameter in parameters.values()]

    def update(self, step: int) -> None:
        """Move towards the weights as they are after `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.tensors, self._live, 1.0 - decay)

    def named(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.tensors, strict=True))
