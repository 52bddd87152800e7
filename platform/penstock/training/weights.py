"""Weights by name: those to publish, and starting from those of another model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from penstock.errors import ModelError
from penstock.store import Store
from penstock.training.run import Run


def to_publish(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that are validated and published, from `Stepper.state`: averaged where EMA is on."""
    return {**state["module"], **state["ema"]}


@torch.no_grad()
def start_from(module: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy `weights` into `module` where name and shape match; the names of those of `module` that keep their
    fresh values (another label set has another head). ModelError when nothing matches."""
    fresh: list[str] = []
    matched = 0
    for name, live in module.state_dict().items():
        given = weights.get(name)
        if given is not None and given.shape == live.shape:
            live.copy_(given)
            matched += 1
        else:
            fresh.append(name)
    if not matched:
        raise ModelError(
            f"none of the weights to start from fits this model (which has {fresh[0]!r}); "
            "start from the same workload and model settings"
        )
    return fresh


def weights_of(run: Run, model: str) -> Mapping[str, Tensor]:
    """The weights of a published version ("name@version") in the store that `run` belongs to."""
    from penstock import registry

    weights: Mapping[str, Tensor] = registry.load(Store.open(run.path.parent.parent), model).weights
    return weights
