"""Ways to make a predictor's networks faster, taken where `penstock bench serve` measured that they help on
this machine and that every answer stays the same (penstock.evaluation.agreement)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from penstock.registry.tuning import FASTER


def networks(predictor: Any) -> list[nn.Module]:
    """The networks that a predictor holds in attributes of its own."""
    return [value for value in vars(predictor).values() if isinstance(value, nn.Module)]


def possible(predictor: Any) -> list[str]:
    """The ways that there is any sense in trying."""
    found = networks(predictor)
    if not found:
        return []
    pictures = any(isinstance(part, nn.Conv2d) for network in found for part in network.modules())
    return [way for way in FASTER if pictures or way != "channels_last"]


def speed_up(predictor: Any, ways: Sequence[str], device: str = "cpu") -> None:
    """Changes the networks of `predictor` in place. `ways`: of penstock.registry.tuning.FASTER."""
    for network in networks(predictor):
        if "channels_last" in ways:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if "bf16" in ways:
            cast = torch.autocast(device, dtype=torch.bfloat16)
            network.forward = cast(network.forward)
        if "compile" in ways:
            _compile(network)


def _compile(network: nn.Module) -> None:
    import torch._functorch.config
    import torch._inductor.config

    # what was compiled before would be read back with pickle
    torch._inductor.config.fx_graph_cache = False
    torch._functorch.config.enable_autograd_cache = False
    torch._inductor.config.compile_threads = 1
    network.compile(dynamic=True)  # batches have many sizes
