"""Plans carried out on a Ray cluster: Ray Data spreads them, each is one task."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Plan = dict[str, Any]
Result = dict[str, Any]
Mapper = Callable[[Callable[[Plan], Result], Sequence[Plan]], Iterable[Result]]
"""Carries out every plan and gives the results in any order."""


def in_process(fn: Callable[[Plan], Result], plans: Sequence[Plan]) -> Iterator[Result]:
    """One plan after the other, here."""
    return map(fn, plans)


def ray_map(fn: Callable[[Plan], Result], plans: Sequence[Plan]) -> Iterator[Result]:
    """The results of `fn` on every plan (JSON in, JSON out), as they are done, from the running Ray
    cluster; from this node alone where a plan says `here`. `fn` is a function of an installed module.
    RuntimeError when Ray is not running."""
    import ray

    if not ray.is_initialized():
        raise RuntimeError("Ray is not running; start it first with penstock.cluster.ensure_ray()")
    import ray.data

    # plans travel as JSON text: Arrow would otherwise guess a common type for all of them
    rows = [{"plan": json.dumps(plan)} for plan in plans]
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Carried(fn), label_selector=here if any(plan.get("here") for plan in plans) else None
    )
    data.context.enable_progress_bars = False
    data.context.print_on_execution_start = False
    with quiet():
        for row in data.iter_rows():
            yield json.loads(row["result"])


@contextmanager
def quiet() -> Iterator[None]:
    """Ray Data's console lines go to its log file only, unless they are errors."""
    handlers = {handler: handler.level for handler in logging.getLogger("ray.data").handlers}
    for handler in handlers:
        if handler.name == "console":
            handler.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for handler, level in handlers.items():
            handler.setLevel(level)


def ray_mapper(start: Callable[[], Any]) -> Mapper:
    """A mapper that calls `start` (penstock.cluster.ensure_ray) when there is something to do: a
    second prepare of the same input never starts Ray."""

    def mapper(fn: Callable[[Plan], Result], plans: Sequence[Plan]) -> Iterator[Result]:
        start()
        return ray_map(fn, plans)

    return mapper


class _Carried:
    def __init__(self, fn: Callable[[Plan], Result]) -> None:
        self._fn = fn

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"result": json.dumps(self._fn(json.loads(row["plan"])))}
