"""The workers of one run: who this one is, where it computes, and the few things they do together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from penstock.training.health import PULSE

Strategy = Literal["exact", "ddp", "fsdp"]


@dataclass(frozen=True)
class World:
    """Worker `rank` of `size`, computing on `device`, reducing gradients by `strategy`."""

    rank: int
    size: int
    device: torch.device
    strategy: Strategy

    @classmethod
    def alone(cls, device: str | torch.device = "cpu") -> World:
        """One worker in this process; no process group is needed and nothing has to be reduced."""
        return cls(0, 1, torch.device(device), "exact")

    @classmethod
    def distributed(cls, device: str | torch.device = "cpu", strategy: str = "auto") -> World:
        """This worker of the torch.distributed group that exists. `auto`: exact on a CPU, ddp on a GPU."""
        device = torch.device(device)
        if strategy == "auto":
            strategy = "exact" if device.type == "cpu" else "ddp"
        assert strategy in ("exact", "ddp", "fsdp"), strategy
        return cls(dist.get_rank(), dist.get_world_size(), device, strategy)  # type: ignore[arg-type]

    @property
    def leads(self) -> bool:
        """Whether this is the worker that writes."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Add up `tensor` over the workers, in place, on every worker."""
        if self.size > 1:
            with PULSE.meeting():
                dist.all_reduce(tensor)

    def gather(self, value: Any) -> list[Any]:
        """The value of each worker in order of rank; on every worker but the leading one an empty list."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.leads else None
        with PULSE.meeting():
            dist.gather_object(value, values)
        return values or []

    def broadcast(self, value: Any) -> Any:
        """The leading worker's value, on every worker."""
        if self.size == 1:
            return value
        box = [value]
        with PULSE.meeting():
            dist.broadcast_object_list(box, device=self.device if self.device.type == "cuda" else None)
        return box[0]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` with the leading worker's."""
        if self.size > 1:
            for tensor in tensors:
                dense = tensor.detach().contiguous()
                with PULSE.meeting():
                    dist.broadcast(dense, 0)
                tensor.detach().copy_(dense)

    def barrier(self) -> None:
        """Wait for all workers."""
        if self.size > 1:
            with PULSE.meeting():
                dist.barrier()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded (every worker has to ask), else the tensor itself."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """`tensor` placed and sharded like `like`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(like, DTensor) and like.shape == tensor.shape:
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device)
