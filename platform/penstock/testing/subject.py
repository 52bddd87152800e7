"""What the checks look at: data, batches, weights and answers of one workload, made when first needed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from penstock.config import Optim, Train
from penstock.store import Store
from penstock.workload import Model, Workload, resolve

if TYPE_CHECKING:
    from torch import Tensor

    from penstock.data.dataset import Dataset

ROWS = 6
"""Items of a batch in these checks: enough to be cut unevenly."""


class Subject:
    """What the checks look at, made once and when first needed."""

    def __init__(self, workload: Workload[Any], store: Store) -> None:
        self.workload, self.store = workload, store

    @cached_property
    def config(self) -> Any:
        return self.workload.presets["smoke"]

    @cached_property
    def dataset(self) -> Dataset:
        from penstock.data.prepare import prepare
        from penstock.data.ray_map import in_process

        return prepare(self.workload, "synthetic", self.config.data, self.store, mapper=in_process)

    def task(self) -> Any:
        """A new Task with the same weights every time."""
        import torch

        torch.manual_seed(0)
        trainer = self.workload.trainers[self.workload.trainer(self.config)]
        return resolve(trainer)(self.config, self.dataset.schema)

    def items(self, first: int, last: int) -> Any:
        from penstock.data.draws import ItemDraws, Items

        return Items(self.dataset.train, range(first, min(last, len(self.dataset.train))), ItemDraws(0, 0))

    def step(self, *cuts: int) -> dict[str, Tensor]:
        """The weights after one step of plain SGD on the first items, in micro-batches cut at `cuts`."""
        from penstock.training.step import MicroBatch, Stepper, reseed
        from penstock.training.world import World

        task = self.task()
        optim = Optim(kind="sgd", lr=0.1, weight_decay=0.0, momentum=0.0, schedule="constant", clip=0.0)
        stepper = Stepper(task, optim, Train(), World.alone(), 0, 1)
        reseed(0, 0, len(cuts))  # another worker draws other numbers from torch's generator
        total = min(ROWS, len(self.dataset.train))
        edges = [0, *cuts, total]
        parts = [
            MicroBatch(task.collate(self.items(low, high)), low, high - low)
            for low, high in itertools.pairwise(edges)
        ]
        stepper.move(0, parts, total)
        return {name: tensor.detach().clone() for name, tensor in task.module.state_dict().items()}

    def predictor(self, weights: dict[str, Tensor] | None = None) -> Any:
        weights = weights if weights is not None else dict(self.task().module.state_dict())
        model = Model(self.workload.name, 1, self.config, self.dataset.schema, weights)
        return resolve(self.workload.predictor)(model, "cpu")

    @cached_property
    def evaluator(self) -> Any:
        return resolve(self.workload.evaluator)(self.config, self.dataset.schema)

    @cached_property
    def rows(self) -> Sequence[Any]:
        test = self.dataset.test
        return list(test.rows(range(min(ROWS, len(test)))))
