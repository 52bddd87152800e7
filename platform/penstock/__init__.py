"""Penstock: distributed training and serving on Ray. Kill it, shrink it, ship it: same answer.


    import penstock
    result = penstock.train("pathology", preset="smoke")
    penstock.evaluate(f"{result.model}@{result.version}")

The verbs of the command line and a client, imported when first used: `import penstock` costs nothing.
`report`, `demo`
and `doctor` are modules as well, so their verbs are called `write_report`, `run_demo` and `examine`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "penstock.client",
    "Client": "penstock.client",
    "Store": "penstock.store",
    "check": "penstock.api",
    "compare": "penstock.evaluation",
    "configure": "penstock.api",
    "evaluate": "penstock.evaluation",
    "examine": "penstock.doctor",
    "export": "penstock.exporting",
    "handle": "penstock.serving.on_ray.switch",
    "models": "penstock.api",
    "new": "penstock.templates",
    "predict": "penstock.prediction",
    "prepare": "penstock.api",
    "promote": "penstock.api",
    "run_demo": "penstock.demo",
    "runs": "penstock.api",
    "serve": "penstock.serving.server",
    "submit": "penstock.jobs.submission",
    "train": "penstock.experiment",
    "tune": "penstock.tuning.tune",
    "workloads": "penstock.api",
    "write_report": "penstock.report",
}
"""Where each name lives. Names, not import statements: nothing below may depend on what stands above it."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
