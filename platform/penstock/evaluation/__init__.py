"""What a model is worth: records per item, metrics with intervals, comparisons. The same code scores a
validation split, a test split, and what an endpoint answered.

`evaluate` and `compare`, the verbs, live in `judge` and are imported when first used: the training loop
scores its validation split with what is here, and must need neither a registry nor Ray for it.
"""

from __future__ import annotations

import importlib
from typing import Any

from penstock.evaluation.bootstrap import Interval, intervals, text
from penstock.evaluation.scoring import Scored, answer_rows, batches, join, records_of, score, summarise

__all__ = [
    "Interval",
    "Scored",
    "answer_rows",
    "batches",
    "compare",
    "evaluate",
    "intervals",
    "join",
    "records_of",
    "score",
    "summarise",
    "text",
]


def __getattr__(name: str) -> Any:
    if name not in ("compare", "evaluate"):
        raise AttributeError(f"module 'penstock.evaluation' has no attribute {name!r}")
    return getattr(importlib.import_module("penstock.evaluation.judge"), name)
