"""Gradients of the mean over a global batch that several workers share: three ways to sum them.

Each way does the same maths: losses are sums over items, gradients are added over the workers and then
divided by the weight of the global batch, so uneven and empty shares are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from penstock.errors import ModelError
from penstock.training import optimiser
from penstock.training.world import World
from penstock.workload import Objective, Task

LossAndWeight = tuple[Tensor, float | Tensor]


class Root(nn.Module):
    """A task as one module: `root(objective name, batch)` -> (loss summed over the items, their weight).

    DDP and FSDP hook into the forward pass of modules, so every loss is computed through this one.
    """

    def __init__(self, task: Task[Any], objectives: Sequence[Objective[Any]]) -> None:
        super().__init__()
        self.module = task.module
        self._losses: dict[str, Callable[[Any], LossAndWeight]] = {o.name: o.loss for o in objectives}

    def forward(self, objective: str, batch: Any) -> LossAndWeight:
        return self._losses[objective](batch)


class Gradients(Protocol):
    """The gradients of one objective's parameters."""

    parameters: Sequence[nn.Parameter]
    overlaps: bool
    """Whether workers wait for each other inside the backward pass already."""

    def begin(self) -> None:
        """Make ready for the first micro-batch of a step."""

    def micro(self, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of a micro-batch; the last one may start to reduce."""

    def loss(self, batch: Any) -> LossAndWeight: ...

    def finish(self, weight: Tensor) -> None:
        """Sum over the workers and divide by the sum of `weight` (this worker's, float64 scalar)."""

    def clip(self, limit: float) -> None:
        """Scale to a norm of at most `limit`; 0 leaves them as they are."""


class Exact:
    """One flat sum of fixed layout, the weight at its end.

    The layout fixes the order of additions, so a resumed run adds as the undisturbed one did, bit for bit.
    (DDP rebuilds its buckets after the first step of a process: with three workers or more, resume is then
    not bitwise.) The gradients are views into the buffer: nothing is copied.
    """

    overlaps = False

    def __init__(
        self, world: World, root: nn.Module, objective: str, parameters: Sequence[nn.Parameter]
    ) -> None:
        self.world, self.root, self.objective, self.parameters = world, root, objective, parameters
        kinds = {parameter.dtype for parameter in parameters}
        if len(kinds) != 1:
            raise ModelError(
                f"objective {objective!r} moves parameters of {len(kinds)} types {kinds}; one is needed"
            )
        size = sum(parameter.numel() for parameter in parameters)
        self.flat = torch.zeros(size + 1, dtype=kinds.pop(), device=world.device)
        start = 0
        for parameter in parameters:
            # the parameter's own strides: fused optimisers walk both by memory
            parameter.grad = self.flat.as_strided(parameter.size(), parameter.stride(), start)
            start += parameter.numel()
        self._gradients, self._weight = self.flat[:-1], self.flat[-1]

    def begin(self) -> None:
        self.flat.zero_()

    def micro(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def loss(self, batch: Any) -> LossAndWeight:
        result: LossAndWeight = self.root(self.objective, batch)
        return result

    def finish(self, weight: Tensor) -> None:
        self._weight.copy_(weight)
        self.world.sum(self.flat)
        self._gradients.div_(self._weight.clamp(min=1e-12))

    def clip(self, limit: float) -> None:
        if limit > 0.0:
            norm = torch.linalg.vector_norm(self._gradients)
            self._gradients.mul_((limit / (norm + 1e-6)).clamp(max=1.0))


class Ddp:
    """torch's DistributedDataParallel: reduces while the backward pass still runs."""

    overlaps = True

    def __init__(
        self, world: World, root: nn.Module, objective: str, parameters: Sequence[nn.Parameter]
    ) -> None:
        self.world, self.objective, self.parameters = world, objective, parameters
        devices = [world.device.index or 0] if world.device.type == "cuda" else None
        # it reduces what requires a gradient now: the parameters of this objective
        self.ddp = DistributedDataParallel(root, device_ids=devices, gradient_as_bucket_view=True)

    def begin(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def micro(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.ddp.no_sync()

    def loss(self, batch: Any) -> LossAndWeight:
        result: LossAndWeight = self.ddp(self.objective, batch)
        return result

    def finish(self, weight: Tensor) -> None:
        total = weight.clone()
        self.world.sum(total)
        # DDP has averaged over the workers
        self._gradients = _grads(self.parameters)
        torch._foreach_mul_(self._gradients, self.world.size / total.clamp(min=1e-12))

    def clip(self, limit: float) -> None:
        optimiser.clip(self._gradients, limit)


class Fsdp:
    """FSDP2: parameters, gradients and optimiser state are sharded over the workers.

    It looks at `requires_grad` only once, so an objective's backward pass also computes the gradients of
    the other side, in vain.
    """

    overlaps = True

    def __init__(
        self, world: World, root: nn.Module, objective: str, parameters: Sequence[nn.Parameter]
    ) -> None:
        self.world, self.root, self.objective, self.parameters = world, root, objective, parameters

    def begin(self) -> None:
        self.root.zero_grad()

    def micro(self, last: bool) -> AbstractContextManager[Any]:
        self.root.set_requires_gradient_sync(last)  # type: ignore[operator]
        return nullcontext()

    def loss(self, batch: Any) -> LossAndWeight:
        result: LossAndWeight = self.root(self.objective, batch)
        return result

    def finish(self, weight: Tensor) -> None:
        total = weight.clone()
        self.world.sum(total)
        # FSDP has averaged over the workers
        self._gradients = _grads(self.parameters)
        torch._foreach_mul_(self._gradients, self.world.size / max(float(total), 1e-12))

    def clip(self, limit: float) -> None:
        optimiser.clip(self._gradients, limit)


def _grads(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def place(world: World, root: Root, names: dict[str, list[str]]) -> dict[str, Gradients]:
    """Spread `root` over the workers; the gradients of each objective. `names`: the parameters (as `root`
    names them) that each objective moves."""
    world.share([*root.parameters(), *root.buffers()])
    if world.strategy == "fsdp" and world.size > 1:
        _shard(world, root)
    everything = dict(root.named_parameters())  # FSDP has put others in their place
    moved = {objective: [everything[name] for name in own] for objective, own in names.items()}
    made: dict[str, Gradients] = {}
    for objective, parameters in moved.items():
        if world.strategy == "fsdp" and world.size > 1:
            made[objective] = Fsdp(world, root, objective, parameters)
        elif world.strategy == "ddp" and world.size > 1:
            focus(moved, objective)
            made[objective] = Ddp(world, root, objective, parameters)
        else:
            made[objective] = Exact(world, root, objective, parameters)
    return made


def focus(moved: dict[str, list[nn.Parameter]], objective: str) -> None:
    """Ask for gradients of this objective's parameters only."""
    for name, parameters in moved.items():
        for parameter in parameters:
            parameter.requires_grad_(name == objective)


def _shard(world: World, root: Root) -> None:
    # each part, then the root: with two roots FSDP2 silently computes wrong gradients
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for part in _parts(root.module):
        fully_shard(part, mesh=mesh)
    fully_shard(root, mesh=mesh)


def _parts(module: nn.Module) -> list[nn.Module]:
    parts: list[nn.Module] = []
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):  # no forward pass to hook into
            parts += _parts(child)
        elif any(True for _ in child.parameters()):
            parts.append(child)
    return parts
