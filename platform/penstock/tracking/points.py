"""What a tracker is given, read from the run's folder: its settings, its committed points, its end."""

from __future__ import annotations

import bisect
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.config import Optim, from_dict
from penstock.report.facts import as_text, flat
from penstock.store import piece, pull
from penstock.training import checkpoint
from penstock.training.events import EventLog
from penstock.training.run import Run


@dataclass(frozen=True)
class Point:
    """Values of one step, by name; `time` in seconds since 1970, the same whenever it is read."""

    step: int
    time: float
    values: Mapping[str, float]


def params_of(run: Run) -> dict[str, str]:
    """All that decides the result: every setting, dotted, with seed and data."""
    spec = run.spec
    card = json.loads(piece(run.dataset_path, "dataset.json"))
    more = {
        "seed": spec.seed,
        "data": spec.dataset,
        "data_fingerprint": card.get("fingerprint", ""),
        "start_from": spec.start_from or "",
    }
    return {name: as_text(value) for name, value in (flat(spec.config) | more).items()}


def tags_of(run: Run) -> dict[str, str]:
    """What the run is and, once it is finished, what came out."""
    spec = run.spec
    tags = {"run": run.name, "identity": run.identity, "workload": spec.workload}
    tags |= {"device": spec.device, "strategy": spec.strategy, "threads": str(spec.threads)}
    if result := run.result:
        tags |= {"version": f"{result['model']}@{result['version']}", "report": result["report"]}
        tags |= {name: result[name] for name in ("weights_sha256", "loss_curve_sha256")}
    return tags


def end_of(run: Run) -> Point | None:
    """The test metrics of a finished run, each with its interval; None while it is not finished."""
    result = run.result
    if result is None:
        return None
    values = {}
    for name, figure in result["metrics"].items():
        for part, suffix in (("value", ""), ("low", "/low"), ("high", "/high")):
            if figure.get(part) is not None:
                values[f"test/{name}{suffix}"] = float(figure[part])
    return Point(result["steps"], (run.path / "result.json").stat().st_mtime, values)


class RunLog:
    """The points of a run up to its newest checkpoint, which no restart takes back."""

    def __init__(self, run: Run) -> None:
        self.run = run
        optim = run.spec.config.get("optim")
        self._optim = from_dict(Optim, optim) if isinstance(optim, Mapping) else None
        self._events = EventLog(run.path / "events.jsonl")
        self._told = 0  # bytes of events.jsonl that were read
        self._times: dict[int, float] = {}  # step -> when it was first said to be done
        self._known: list[int] = []  # its steps, sorted
        self._speeds: dict[int, float] = {}
        self._steps = 0  # of the whole run, where that is known
        self._read = (0, 0)  # step and bytes of metrics.jsonl that were given

    def since(self, step: int) -> tuple[list[Point], int]:
        """All points after `step`, in order, and the step they reach to."""
        last, length = checkpoint.newest_length(self.run.checkpoints)
        path = self.run.metrics.path
        if last <= step:
            return [], step
        if _size(path) < length:
            pull(path)  # it was written on another machine
        if _size(path) < length:  # it is cut back just now
            return [], step
        self._listen()
        start = self._read[1] if self._read[0] == step and self._read[1] <= length else 0
        lines = _lines(path, start, length)
        if not lines or lines[0]["step"] > step + 1:
            lines = _lines(path, 0, length)  # it was cut back behind what was read, and written on
        if not lines or lines[-1]["step"] != last:
            return [], step  # that checkpoint was damaged, and steps before it are done again
        self._read = (last, length)
        points = [self._point(line) for line in lines if line["step"] > step]
        points += [
            Point(at, self._time(at), {"items_per_s": speed})
            for at, speed in self._speeds.items()
            if step < at <= last
        ]
        return sorted(points, key=lambda point: point.step), last

    def _listen(self) -> None:
        told, self._told = self._events.since(self._told)
        for event in told:
            if event.get("event") in ("step", "iteration"):
                # of a step that was done twice the first time counts: it stays what it is
                self._times.setdefault(event["step"], event["time"])
                self._speeds.setdefault(event["step"], event["items_per_s"])
                if event["event"] == "step":
                    self._steps = event["steps"]
        self._known = sorted(self._times)

    def _point(self, line: Mapping[str, Any]) -> Point:
        step = line["step"]
        return Point(step, self._time(step), dict(self._values(line)))

    def _values(self, line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        for name, value in line.items():
            if name == "validation":
                yield from ((f"validation/{metric}", float(worth)) for metric, worth in value.items())
            elif name != "step" and isinstance(value, int | float):
                yield name, float(value)
        if "validation" not in line and self._optim is not None and self._steps:
            from penstock.training.optimiser import rate

            yield "learning_rate", rate(self._optim, line["step"] - 1, self._steps)

    def _time(self, step: int) -> float:
        """When `step` was done, as exactly as events say it."""
        place = bisect.bisect_left(self._known, step)
        return self._times[self._known[place]] if place < len(self._known) else time.time()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _lines(path: Path, start: int, end: int) -> list[dict[str, Any]]:
    """The lines between two bytes of a file; none where these are no bounds of lines."""
    with path.open("rb") as file:
        file.seek(start)
        text = file.read(end - start)
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return []
