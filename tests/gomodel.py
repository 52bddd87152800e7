"""An untrained Go model, for tests of what is done with one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from penstock.workload import Model, Schema
from workloads.go.config import Config, Net, Play
from workloads.go.model import GoNet
from workloads.go.planes import PLANES

SCHEMA = Schema(fields={"planes": PLANES})
SMALL = Config(model=Net(width=8, blocks=1), play=Play(visits=8, judged=4))


def weights_of(config: Config = SMALL, seed: int = 0) -> dict[str, torch.Tensor]:
    """Stirred, so that nothing in it stands for nothing."""
    torch.manual_seed(seed)
    module = GoNet(config.model.width, config.model.blocks)
    return {name: value + 0.2 * torch.randn_like(value) for name, value in module.state_dict().items()}


def model_of(seed: int = 0, **settings: Any) -> Model[Config]:
    config = replace(SMALL, **settings)
    return Model("go", 0, config, SCHEMA, weights_of(config, seed))
