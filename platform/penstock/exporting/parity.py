"""Whether an exported model says what the model says: graph by graph, and answer by answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.errors import PenstockError, RunFailed
from penstock.evaluation.agreement import agree
from penstock.exporting.onnx_graph import BATCH, Arrays, Session, axes, length, resized
from penstock.graphs import Graph
from penstock.workload import Predictor, Refusal

TOLERANCE = 1e-4
BATCHES = (1, 3)
"""Batch sizes at which a graph is compared; it is derived from another one."""
DERIVED = 2
KEPT = 24  # calls of a graph that are compared as they were


def answered(predictor: Predictor[Any, Any], requests: Sequence[Any]) -> list[Any]:
    """Answers to `requests`: one alone, three together, the rest together."""
    parts = [requests[:1], requests[1:4], requests[4:]]
    return [answer for part in parts if part for answer in predictor.predict(part)]


def calls_of(graphs: Mapping[str, Graph], ask: Callable[[], object]) -> dict[str, list[Arrays]]:
    """What each graph is called with while `ask` runs; PenstockError where one is not called at all."""
    calls: dict[str, list[Arrays]] = {name: [] for name in graphs}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            if len(calls[name]) < KEPT:
                calls[name].append([np.array(tensor.cpu().numpy()) for tensor in given])

        return hook

    hooks = [graph.module.register_forward_pre_hook(keep(name)) for name, graph in graphs.items()]
    try:
        ask()
    finally:
        for hook in hooks:
            hook.remove()
    for name, found in calls.items():
        if not found:
            raise PenstockError(f"no answer calls its graph {name!r}")
    return calls


def example(graph: Graph, calls: Sequence[Arrays]) -> Arrays:
    """What a graph is derived from: the largest call, every axis of any length at two or more, as one of 1
    would be taken for a fixed one."""
    inputs = max(calls, key=lambda call: sum(array.size for array in call))
    for axis in axes(graph):
        now = length(graph, inputs, axis)
        inputs = resized(graph, inputs, axis, DERIVED if axis == BATCH else max(now, DERIVED))
    return inputs


def variants(graph: Graph, calls: Sequence[Arrays]) -> list[Arrays]:
    """Calls as they were; of each shape one at each of BATCHES, and one with each other axis shorter by 1."""
    pools: dict[tuple[Any, ...], Arrays] = defaultdict(list)
    for call in calls:
        alone = tuple(array.shape for array in resized(graph, call, BATCH, 1))
        pools[alone] = joined(graph, pools[alone], call) if pools[alone] else call
    made = list(calls)
    for pool in pools.values():
        for axis in axes(graph):
            now = length(graph, pool, axis)
            sizes = BATCHES if axis == BATCH else [now - 1] if now > 1 else []
            made += [resized(graph, pool, axis, size) for size in sizes]
    return made


def joined(graph: Graph, pool: Arrays, call: Arrays) -> Arrays:
    """Two calls as one batch; the first where there is no batch axis to join them along."""
    made = []
    for before, after, shape in zip(pool, call, graph.inputs.values(), strict=True):
        along = [place for place, name in enumerate(shape) if name == BATCH]
        made.append(np.concatenate([before, after], along[0]) if along else before)
    return made


class Difference(NamedTuple):
    """The largest between numbers: `absolute`, and absolute or relative, whichever is smaller
    (`distance`)."""

    absolute: float = 0.0
    distance: float = 0.0


def compare_graph(name: str, graph: Graph, session: Session, calls: Sequence[Arrays]) -> Difference:
    """Between what the module and the file give; RunFailed where the file fails or gives another shape."""
    largest = Difference()
    for inputs in variants(graph, calls):
        with torch.inference_mode():
            given = graph.module(*(torch.from_numpy(array) for array in inputs))
        ours = [each.cpu().numpy() for each in ([given] if isinstance(given, torch.Tensor) else given)]
        shapes = [tuple(array.shape) for array in inputs]
        try:
            theirs = session.run(inputs)
        except Exception as error:
            line = str(error).strip().splitlines()[0]
            raise RunFailed(f"graph {name!r} fails on inputs of shape {shapes}: {line[:200]}") from error
        for output, mine, other in zip(graph.outputs, ours, theirs, strict=True):
            if mine.shape != other.shape:
                raise RunFailed(
                    f"output {output!r} of graph {name!r} has shape {other.shape} where the model gives "
                    f"{mine.shape}, for inputs of shape {shapes}"
                )
        if found_by(graph):
            theirs = rearranged(ours, theirs)
        apart = [difference(*pair) for pair in zip(ours, theirs, strict=True)]
        largest = Difference(*(max(each) for each in zip(largest, *apart, strict=True)))
    return largest


def found_by(graph: Graph) -> bool:
    """Whether a graph finds things, as many as there are: the first axis of all its outputs is none of its
    inputs'."""
    return all(isinstance(shape[0], str) and shape[0] not in axes(graph) for shape in graph.outputs.values())


def rearranged(ours: Arrays, theirs: Arrays) -> Arrays:
    """Found things in the order of `ours`, each matched with the one most like it: rounding decides which of
    two with the same score comes first. Whether the order matters is for the answers to say."""
    from scipy.optimize import linear_sum_assignment

    mine, other = (
        np.concatenate([each.reshape(len(each), -1).astype(np.float64) for each in side], 1)
        for side in (ours, theirs)
    )
    _, order = linear_sum_assignment(np.abs(mine[:, None] - other).max(2))
    return [each[order] for each in theirs]


def difference(ours: NDArray[Any], theirs: NDArray[Any]) -> Difference:
    """Of two arrays of one shape; infinite where only one has a number."""
    mine, other = ours.astype(np.float64), theirs.astype(np.float64)
    same = (mine == other) | ((mine != mine) & (other != other))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.nan_to_num(np.abs(mine - other), nan=np.inf, posinf=np.inf))
        scale = np.where(same, 1.0, np.maximum(1.0, np.maximum(np.abs(mine), np.abs(other))))
        relative = np.nan_to_num(apart / scale, nan=np.inf, posinf=np.inf)
    return Difference(float(apart.max(initial=0.0)), float(relative.max(initial=0.0)))


def compare_answers(ours: Sequence[Any], theirs: Sequence[Any]) -> dict[str, Any]:
    """How the answers of the model and those built from its graphs compare; RunFailed where they differ."""
    found = [agree(*pair, tolerance=TOLERANCE) for pair in zip(ours, theirs, strict=True)]
    for number, one in enumerate(found):
        if one.faults:
            where, mine, other = one.faults[0]
            raise RunFailed(
                f"answer {number + 1} of {len(found)} differs{' at ' + where if where else ''}: "
                f"{mine!r:.80} by the model, {other!r:.80} by its export"
            )
    return {
        "answers": len(found),
        "refused": sum(isinstance(answer, Refusal) for answer in ours),
        "largest_in_answers": max((one.largest for one in found), default=0.0),
        "ties": sum(one.ties for one in found),
    }
