"""The public conformance test: our workloads pass it, and it finds what is wrong with others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from penstock import catalog
from penstock.store import Store
from penstock.testing import check_workload
from penstock.workload import Batch, Refusal, Row, Schema, Workload
from tests import toy

OURS = [name for name, point in catalog.installed().items() if point.value.startswith("workloads.")]


def failed(workload: Workload[Any], store: Store) -> dict[str, str]:
    """What the check finds: name -> why."""
    return {check.name: check.why for check in check_workload(workload, store) if not check.passed}


@pytest.mark.parametrize("name", [*OURS, "toy"])
def test_it_keeps_the_contract(name: str, store: Store) -> None:
    assert failed(catalog.find(name), store) == {}


def test_two_objectives_keep_it_too(store: Store) -> None:
    assert failed(toy.pair, store) == {}


# ---------------------------------------------------------------- what is found in others


class BatchNormTask(toy.Task):
    def __init__(self, config: toy.Config, schema: Schema) -> None:
        super().__init__(config, schema)
        self.module.norm = nn.BatchNorm2d(config.model.width)


class TorchDropoutTask(toy.Task):
    def __init__(self, config: toy.Config, schema: Schema) -> None:
        super().__init__(config, schema)
        self.module.dropout = nn.Dropout(0.5)


class MeanLossTask(toy.Task):
    def loss(self, batch: toy.Points) -> tuple[Tensor, float]:
        total, weight = super().loss(batch)
        return total / max(weight, 1), weight


class ForgetfulTask(toy.Task):
    def objectives(self) -> Sequence[Any]:
        (whole,) = super().objectives()
        return [dataclasses.replace(whole, moves=whole.moves[:-1])]


class CarelessTask(toy.Task):
    def collate(self, items: Batch) -> toy.Points:
        points = super().collate(items)
        return dataclasses.replace(points, pixels=points.pixels + torch.rand(1))


class GluttonTask(toy.Task):
    def collate(self, items: Batch) -> toy.Points:
        rows = [torch.tensor(row["pixels"]) for row, _ in items]
        stacked = torch.stack(rows)  # of nothing: an error
        return dataclasses.replace(super().collate(items), pixels=toy.scale(stacked))


class CrowdPredictor(toy.Predictor):
    def predict(self, requests: Sequence[toy.Request]) -> Sequence[toy.Answer | Refusal]:
        answers = super().predict(requests)
        return [toy.Answer(label=each.label, score=each.score / len(requests)) for each in answers]  # type: ignore[union-attr]


class ShortEvaluator(toy.Evaluator):
    def records(self, rows: Sequence[Row], answers: Sequence[toy.Answer | Refusal]) -> pa.Table:
        good = [i for i, answer in enumerate(answers) if not isinstance(answer, Refusal)]
        return super().records([rows[i] for i in good], [answers[i] for i in good])


HERE = "tests.contract.test_conformance"


@pytest.mark.parametrize(
    ("change", "finds"),
    [
        ({"trainers": {"supervised": f"{HERE}:BatchNormTask"}}, "micro-batches change nothing"),
        ({"trainers": {"supervised": f"{HERE}:TorchDropoutTask"}}, "micro-batches change nothing"),
        ({"trainers": {"supervised": f"{HERE}:MeanLossTask"}}, "micro-batches change nothing"),
        (
            {"trainers": {"supervised": f"{HERE}:ForgetfulTask"}},
            "every parameter is moved by exactly one objective",
        ),
        (
            {"trainers": {"supervised": f"{HERE}:CarelessTask"}},
            "collate draws only from the items' generators",
        ),
        (
            {"trainers": {"supervised": f"{HERE}:GluttonTask"}},
            "collate draws only from the items' generators",
        ),
        ({"predictor": f"{HERE}:CrowdPredictor"}, "an answer does not depend on the rest of its batch"),
        ({"evaluator": f"{HERE}:ShortEvaluator"}, "records and metrics are well-formed"),
        ({"decode": "tests.toy:nothing"}, "every reference resolves"),
        ({"presets": {"smoke": toy.SMOKE}}, "presets and search space fit the config"),
        ({"space": {"optim.lrr": toy.workload.space["optim.lr"]}}, "presets and search space fit the config"),
        ({"sources": {"csv": "tests.toy:Synthetic"}}, "the fields are as the contract says"),
    ],
)
def test_a_broken_promise_is_named(change: dict[str, Any], finds: str, store: Store) -> None:
    found = failed(dataclasses.replace(toy.workload, **change), store)
    named = [name for name in found if name.startswith(finds)]
    assert named, found
    assert all(why and "\n" not in why for why in found.values())
