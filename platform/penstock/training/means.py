"""With what a run computes: workers, their threads and GPUs."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from penstock.cluster import available_cpus, elsewhere, ensure_ray
from penstock.errors import RunError
from penstock.training.health import TIMEOUT_S

Workers = int | tuple[int, int]
"""How many, or elastic between two numbers."""


@dataclass(frozen=True)
class Means:
    """`workers` (elastic up to `max_workers` when that is not 0), each with `threads` and `gpus` GPUs.
    `health_timeout_s`: without a step for so long a worker counts as hung."""

    workers: int
    max_workers: int
    threads: int
    gpus: float
    health_timeout_s: float = TIMEOUT_S
    placed: bool = False  # this process is one that Ray has started for the whole work

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def alone(self) -> bool:
        """Whether one process on this machine does it all, so that Ray is not needed."""
        return self.workers == 1 and self.max_workers <= 1 and (self.placed or not elsewhere())


def means(workers: Workers | None, threads: int | None, cpus: int | None, gpus: float | None) -> Means:
    """What was asked for; where nothing was, one worker per GPU, else one per CPU core up to 4. RunError when
    there are too few CPUs for it. `cpus`: logical CPUs of the local Ray that is yet to be started."""
    if elsewhere():
        ensure_ray()
    count = available_cpus() if cpus is None or _ray_runs() else cpus
    found = _gpus()
    each = gpus if gpus is not None else float(found > 0)
    low, high = workers if isinstance(workers, tuple) else (workers, 0)
    if low is None:
        low = max(int(found / each), 1) if each else max(min(count // (threads or 1), 4), 1)
    demand_cpus(low, threads or 1, count)
    return Means(low, high, threads or 1, each)


def demand_cpus(workers: int, threads: int, cpus: int) -> None:
    """RunError when `workers` of `threads` each do not fit on `cpus` logical CPUs."""
    need = workers * threads
    if need > cpus:
        each = f" of {threads} threads" if threads > 1 else ""
        raise RunError(
            f"{workers} workers{each} need {need} CPUs and there are {cpus}; "
            f"lower --workers, or declare more with --cpus {need}"
        )


def _ray_runs() -> bool:
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _gpus() -> int:
    if _ray_runs():
        return int(sys.modules["ray"].cluster_resources().get("GPU", 0))
    import torch

    return torch.cuda.device_count()
