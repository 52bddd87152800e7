"""Go. `workload` (definition.py) is loaded when it is asked for: the environments are for others too, and
import numpy, numba and gymnasium alone."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "workload":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from workloads.go.definition import workload

    return workload
