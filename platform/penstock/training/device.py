"""Where a worker computes: batches on their way to the device, and the settings that sums depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from penstock.nn import stand_at
from penstock.training.world import World


def to_device(batch: Any, world: World, precision: str) -> Any:
    """`batch` with its tensors (in tuples, lists, dicts, dataclasses, named tuples) on the world's device; in
    fp64 floating ones become double."""
    double = precision == "fp64"
    if world.device.type == "cpu" and not double:
        return batch
    return _move(batch, world.device, double)


def _move(value: Any, device: torch.device, double: bool) -> Any:
    if isinstance(value, torch.Tensor):
        kind = torch.float64 if double and value.is_floating_point() else None
        return value.to(device, kind, non_blocking=True)
    if isinstance(value, dict):
        return {key: _move(item, device, double) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_move(item, device, double) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_move(item, device, double) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: _move(getattr(value, f.name), device, double) for f in dataclasses.fields(value) if f.init
        }
        return dataclasses.replace(value, **fields)
    return value


@contextmanager
def computing(threads: int, world: World) -> Iterator[None]:
    """The number of threads and the kernels that sums depend on, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    exact_on_gpu = world.device.type == "cuda" and world.strategy == "exact"
    if exact_on_gpu:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        stand_at(None)
        torch.set_num_threads(before)
        if exact_on_gpu:
            torch.use_deterministic_algorithms(False)
