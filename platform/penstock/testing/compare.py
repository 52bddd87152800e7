"""Batches and answers, taken apart to be compared."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from penstock.workload import Refusal


def example_of(kind: Any) -> Any:
    """The first example of a pydantic model, or None."""
    extra = kind.model_config.get("json_schema_extra")
    found = extra.get("examples") if isinstance(extra, dict) else None
    return found[0] if found else None


def said(answers: Sequence[Any]) -> list[Any]:
    """Answers as JSON values."""
    return [
        {"refused": each.detail} if isinstance(each, Refusal) else json.loads(each.model_dump_json())
        for each in answers
    ]


def leaves(batch: Any) -> list[Any]:
    """The tensors and other values of a batch, however it is nested."""
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        batch = [getattr(batch, each.name) for each in dataclasses.fields(batch)]
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        return [leaf for part in batch for leaf in leaves(part)]
    return [batch]


def same(a: Any, b: Any) -> bool:
    import torch

    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


def close(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same up to float noise (1e-4)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-4)
    return bool(a == b)
