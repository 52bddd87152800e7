"""A task in training, moved by one global batch at a time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from penstock.config import Optim, Train
from penstock.data.order import key
from penstock.errors import ConfigError, ModelError
from penstock.nn import Place, name_layers, stand_at
from penstock.training import gradients, optimiser
from penstock.training.health import PULSE
from penstock.training.optimiser import Average
from penstock.training.weights import to_publish
from penstock.training.world import World, shard_like, whole
from penstock.workload import Objective, Task

WINDOW = 25
"""Steps after which the losses are reduced and logged at the latest."""


@dataclass(frozen=True)
class MicroBatch:
    """Collated items `first` to `first + rows` of a global batch."""

    batch: Any
    first: int
    rows: int


class Stepper:
    """Weights, optimisers, averaged weights and scalers of a run.

    `task` is moved to the world's device and precision and spread over its workers. `steps` is the length
    of the whole run, which the learning rate follows. ConfigError or ModelError when settings or objectives
    cannot be.
    """

    def __init__(
        self, task: Task[Any], optim: Optim, train: Train, world: World, seed: int, steps: int
    ) -> None:
        self.optim, self.world, self.seed, self.steps = optim, world, seed, steps
        task.module.to(world.device, torch.float64 if train.precision == "fp64" else None)
        task.module.train()
        name_layers(task.module)
        objectives = list(task.objectives())
        root = gradients.Root(task, objectives)
        names = moved_names(root, objectives)
        if train.compile:
            root.compile()
        self.module: nn.Module = task.module
        self.gradients = gradients.place(world, root, names)
        self.optimisers = {
            name: optimiser.build(optim, own.parameters) for name, own in self.gradients.items()
        }
        self._moved = {name: list(own.parameters) for name, own in self.gradients.items()}
        # FSDP2 looks at requires_grad only once
        self._focus = len(objectives) > 1 and (world.strategy != "fsdp" or world.size == 1)
        self.average = Average(dict(self.module.named_parameters()), train.ema) if train.ema > 0.0 else None
        self.scalers = mixed_scalers(train, world, list(names))
        self._autocast = autocast(train, world)
        sums = torch.zeros(WINDOW, len(objectives), 2, dtype=torch.float64, device=world.device)
        self._sums, self._count = sums, 0
        # views made once: indexing a tensor costs more than adding to it
        self._cells = [[(cell[0], cell[1]) for cell in line] for line in sums]

    def move(self, step: int, micro: Sequence[MicroBatch], total: int) -> None:
        """Take step `step` (from 0): `micro` is this worker's share of a global batch of `total` items."""
        rate = optimiser.rate(self.optim, step, self.steps)
        for index, (name, own) in enumerate(self.gradients.items()):
            if self._focus:
                gradients.focus(self._moved, name)
            loss_sum, weight_sum = self._cells[self._count][index]
            scaler = self.scalers.get(name)
            own.begin()
            for part in micro:
                stand_at(Place(self.seed, step, name, part.first, part.rows, total))
                with own.micro(part is micro[-1]):
                    with self._autocast:
                        loss, weight = own.loss(part.batch)
                    scaled: Tensor = loss if scaler is None else scaler.scale(loss)
                    with PULSE.meeting() if own.overlaps else nullcontext():
                        scaled.backward()  # type: ignore[no-untyped-call]
                loss_sum.add_(loss.detach())
                weight_sum.add_(weight)
            stand_at(None)
            own.finish(weight_sum)
            self._apply(name, own, scaler, rate)
        self._count += 1
        if self.average is not None:
            self.average.update(step)

    def _apply(self, name: str, own: gradients.Gradients, scaler: GradScaler | None, rate: float) -> None:
        moving = self.optimisers[name]
        for group in moving.param_groups:
            group["lr"] = rate
        if scaler is None:
            own.clip(self.optim.clip)
            moving.step()
        else:
            scaler.unscale_(moving)
            own.clip(self.optim.clip)
            scaler.step(moving)
            scaler.update()

    def losses(self) -> list[dict[str, float]]:
        """The mean loss of each objective over the global batch, for each step since the last call (at most
        `WINDOW`); every worker has to ask."""
        sums = self._sums[: self._count]
        self.world.sum(sums)
        means = (sums[..., 0] / sums[..., 1].clamp(min=1e-12)).tolist()
        sums.zero_()
        self._count = 0
        return [dict(zip(self.gradients, line, strict=True)) for line in means]

    def share_buffers(self) -> None:
        """Give every worker the leading one's buffers, the ones a checkpoint and a published model hold."""
        self.world.share(self.module.buffers())

    def weights(self) -> dict[str, Tensor]:
        """The weights to validate and publish, whole, averaged where EMA is on; every worker has to ask. Live
        tensors: copy them."""
        return to_publish({"module": self._module(), "ema": self._averaged()})

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs beside its step, whole; every worker has to ask. Live tensors:
        copy them."""
        return {
            "module": self._module(),
            "ema": self._averaged(),
            "optim": {
                name: {
                    i: {k: whole(v) if isinstance(v, Tensor) else v for k, v in state.items()}
                    for i, parameter in enumerate(self._moved[name])
                    if (state := moving.state.get(parameter))
                }
                for name, moving in self.optimisers.items()
            },
            "scaler": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
        }

    def _module(self) -> dict[str, Tensor]:
        return {name: whole(tensor) for name, tensor in self.module.state_dict().items()}

    def _averaged(self) -> dict[str, Tensor]:
        if self.average is None:
            return {}
        averaged = self.average.named()
        first_name = {id(parameter): name for name, parameter in self.module.named_parameters()}
        # a tied parameter stands in the state_dict under each of its names
        everywhere = self.module.named_parameters(remove_duplicate=False)
        return {name: whole(averaged[first_name[id(parameter)]]) for name, parameter in everywhere}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state()` gave."""
        copy_into(self.module.state_dict(), state["module"])
        if self.average is not None:
            copy_into(self.average.named(), state["ema"])
        for name, moving in self.optimisers.items():
            kept = {
                i: {
                    k: shard_like(v, self._moved[name][i]) if isinstance(v, Tensor) else v
                    for k, v in one.items()
                }
                for i, one in state["optim"][name].items()
            }
            moving.load_state_dict({"state": kept, "param_groups": moving.state_dict()["param_groups"]})
        for name, scaler in self.scalers.items():
            scaler.load_state_dict(state["scaler"][name])


def copy_into(live: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    for name, tensor in live.items():
        if name in kept:
            tensor.copy_(shard_like(kept[name], tensor))


def moved_names(root: nn.Module, objectives: Sequence[Objective[Any]]) -> dict[str, list[str]]:
    """The names of the trainable parameters each objective moves; ModelError unless each is moved once."""
    names = {id(parameter): name for name, parameter in root.named_parameters()}
    moved: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for objective in objectives:
        own = moved.setdefault(objective.name, [])
        for parameter in objective.moves:
            name = names.get(id(parameter))
            if name is None:
                raise ModelError(f"objective {objective.name!r} moves a parameter that is not in Task.module")
            if owner.setdefault(name, objective.name) != objective.name:
                raise ModelError(
                    f"parameter {name[7:]!r} is moved by {owner[name]!r} and by {objective.name!r}"
                )
            if parameter.requires_grad and name not in own:
                own.append(name)
        if not own:
            raise ModelError(f"objective {objective.name!r} moves no parameter that requires a gradient")
    for name, parameter in root.named_parameters():
        if parameter.requires_grad and name not in owner:
            raise ModelError(
                f"parameter {name[7:]!r} is moved by no objective; freeze it or add it to one's moves"
            )
    return moved


def mixed_scalers(train: Train, world: World, names: Sequence[str]) -> dict[str, GradScaler]:
    """One gradient scaler per objective in fp16, none otherwise."""
    if train.precision != "fp16":
        return {}
    if world.device.type != "cuda":
        raise ConfigError("train.precision = 'fp16' needs a GPU; use 'bf16' or 'fp32'")
    if world.strategy == "fsdp":
        raise ConfigError("train.precision = 'fp16' does not go with strategy 'fsdp'; use 'bf16'")
    return {name: GradScaler(world.device.type) for name in names}


def autocast(train: Train, world: World) -> AbstractContextManager[Any]:
    if train.precision not in ("bf16", "fp16"):
        return nullcontext()
    kind = torch.bfloat16 if train.precision == "bf16" else torch.float16
    return torch.autocast(world.device.type, kind)


def reseed(seed: int, step: int, rank: int) -> None:
    """Set torch's, numpy's and Python's generators from (seed, step, rank), so that a resumed run needs no
    generator state."""
    number = int(key("step", seed, step, rank)[0])
    # torch.manual_seed would cost 320 us: it walks every kind of accelerator
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    random.seed(number)
