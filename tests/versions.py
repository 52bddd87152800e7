"""Versions of the toy to publish in tests, without training any."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch

from penstock import registry
from penstock.registry import Version
from penstock.store import Store
from penstock.workload import Schema
from tests.toy import Config, workload

SCHEMA = Schema(("left", "right"), {"size": 8}, {"notes.json": b"{}"})
WEIGHTS = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.tensor([0.5, -0.5])}
RECORDS = pa.table({"item": ["a", "b"], "unit": ["a", "b"], "score": [0.1, 0.9]})
METRICS = {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "auroc": {"value": float("nan")}}


def data_card(name: str = "synthetic") -> dict[str, Any]:
    return {
        "id": "0123456789abcdef",
        "source": {"format": name, "name": ""},
        "licence": "CC0-1.0",
        "counts": {"train": 8, "validation": 2, "test": 2},
        "shards": {"test-0.arrow": {"split": "test", "sha256": "00"}},
    }


def publish(store: Store, name: str = "toy", **changed: Any) -> Version:
    given: dict[str, Any] = {
        "metrics": METRICS,
        "records": RECORDS,
        "dataset_card": data_card(),
        "run": "toy-1",
        "seed": 0,
    }
    schema, weights = changed.pop("schema", SCHEMA), changed.pop("weights", WEIGHTS)
    return registry.publish(store, name, workload, Config(), schema, weights, **(given | changed))
