"""What a person sees of a run: one calm line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TextIO

PASSING = {"prepare", "step", "iteration"}
"""Events that replace each other on a terminal's last line; the others stay."""
EVERY_S = 10.0
"""Without a terminal, at most one passing event in this time."""


class Progress:
    """Shows events. Use as a context manager: the line is taken away at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = time.monotonic()
        self._first: tuple[int, float] | None = None  # step and time of this attempt's first event
        self._best = ""
        self._status: Any = None
        self._settings: dict[int, Mapping[str, Any]] = {}  # of each trial, as last shown

    def __enter__(self) -> Progress:
        if self._out.isatty():
            from rich.console import Console

            self._status = Console(file=self._out, highlight=False).status("")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """One event of prepare, of the loop or of the runner: {"event": …, …}."""
        text = self._describe(event)
        passing = event["event"] in PASSING
        if not text:
            return
        if self._status is None:
            if not passing or time.monotonic() - self._shown >= EVERY_S:
                self._shown = time.monotonic()
                print(text, file=self._out, flush=True)
        elif passing:
            from rich.markup import escape

            self._status.update(escape(text))
        else:
            self._status.console.print(text, markup=False, soft_wrap=True)

    def _describe(self, event: Mapping[str, Any]) -> str:
        kind = event["event"]
        if kind in ("start", "resume"):
            self._first = (event["step"], time.monotonic())
        if kind == "step":
            return self._step(event)
        if kind == "iteration":
            return iteration(event)
        if kind == "rating":
            figures = {name: value for name, value in event["validation"].items() if value == value}
            return f"iteration {event['step']}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items())
        if kind == "validation":
            value = event["validation"].get(event["goal"])
            figure = f"{event['goal']} {value:.4f}" if isinstance(value, float) else event["goal"]
            best = event["best_step"] == event["step"]
            if best:
                self._best = figure
            return f"epoch {event['epoch']}: validation {figure}{' (best so far)' if best else ''}"
        if kind == "trial":
            return self._trial(event)
        said = SAYINGS.get(kind)
        return said.format(**event) if said else ""

    def _step(self, event: Mapping[str, Any]) -> str:
        step, steps = event["step"], event["steps"]
        first, since = self._first or (step, time.monotonic())
        left = (time.monotonic() - since) / max(step - first, 1) * (steps - step) if step > first else None
        parts = [
            f"epoch {event['epoch']}/{event['epochs']}",
            f"step {step}/{steps}",
            f"loss {event['loss']:.4f}",
            f"best {self._best}" if self._best else "",
            f"{event['items_per_s']:,.0f} items/s",
            f"{int(left) // 60}:{int(left) % 60:02d} left" if left is not None else "",
        ]
        return "  ".join(part for part in parts if part)

    def _trial(self, event: Mapping[str, Any]) -> str:
        """Of a search, when something came of it; its settings once, and again when they have changed."""
        if event["state"] not in ("paused", "finished", "failed"):
            return ""
        number, config = event["trial"], event["config"]
        listed = " ".join(f"{name}={short(value)}" for name, value in config.items())
        settings = "" if self._settings.get(number) == config else f"  ({listed})"
        self._settings[number] = config
        if event["state"] == "failed":
            return f"trial {number} failed: {event['why']}{settings}"
        far = f"{event['validations']} of {event['of']} validations"
        return f"trial {number}: best {event['goal']} {short(event['metric'])} after {far}{settings}"


def iteration(event: Mapping[str, Any]) -> str:
    """Of what learns from games: how many iterations it will be is not known."""
    left = event["seconds"] * (1 - event["done"]) / event["done"] if event["done"] else 0.0
    loss = event["loss"]
    parts = [
        f"iteration {event['step']} ({event['done']:.0%})",
        f"loss {loss:.4f}" if loss is not None else "",
        f"{event['games']:,.0f} games",
        f"{event['items_per_s']:,.0f} positions/s",
        f"{int(left) // 60}:{int(left) % 60:02d} left",
    ]
    return "  ".join(part for part in parts if part)


def short(value: Any) -> str:
    """A setting or a metric, with the digits that a person reads."""
    if isinstance(value, float):
        return f"{value:.4g}" if value == value else "-"
    return str(value)


SAYINGS = {
    "playing": "training by playing: up to {iterations} iterations{limit}, env runners: {runners}",
    "playing_on": "going on from iteration {step}, {done:.0%} of the run, env runners: {runners}",
    "prepare": "preparing: {done} of {total} shards",
    "fit": "learning from the training split what every model of it needs",
    "start": "training: {steps} steps, {epochs} epochs, workers: {workers}",
    "resume": "going on from step {step} of {steps}, workers: {workers}",
    "start_from": "starting from published weights; fresh: {fresh}",
    "restart": "starting workers again: {why}",
    "waiting": "waiting: {for}",
    "hung": "worker {rank} on node {node} made no step for {seconds} s: killed, the run goes on without it",
    "straggler": "worker {rank} on node {node} is slow: {factor:.1f} times the others' median step",
    "warning": "warning: {message}",
    "note": "{text}",
    "training": "{workload}: {text}",
}
