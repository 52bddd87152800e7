"""What a person sees of a run: one calm line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TextIO

MILESTONES = {"start", "resume", "validation", "restart", "done", "published", "note", "warning"}
"""Events that stay on the screen; the others replace each other on a terminal's last line."""
EVERY_S = 10.0
"""Without a terminal, at most one line about steps in this time."""


class Progress:
    """Shows events. Use as a context manager: the line is cleaned up at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = time.monotonic()
        self._status: Any = None

    def __enter__(self) -> Progress:
        if self._out.isatty():
            from rich.console import Console

            console = Console(file=self._out, highlight=False)
            self._status = console.status("", spinner="dots")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """One event of prepare, of the loop or of the runner: {"event": …, …}."""
        text = describe(event)
        if not text:
            return
        stays = event.get("event") in MILESTONES
        if self._status is not None:
            if stays:
                self._status.console.print(text, markup=False, soft_wrap=True)
            else:
                from rich.text import Text

                self._status.update(Text(text))
        elif stays or time.monotonic() - self._shown >= EVERY_S:
            self._shown = time.monotonic()
            print(text, file=self._out, flush=True)


def describe(event: Mapping[str, Any]) -> str:
    """One line about an event; "" for one that nobody needs to see."""
    kind = event.get("event")
    if kind == "prepare":
        return f"preparing  {event.get('done', 0)} of {event.get('total', '?')} shards"
    if kind in ("step", "progress"):
        return "  ".join(part for part in _step_parts(event) if part)
    if kind == "validation":
        scores = ", ".join(
            f"{name} {value:.4f}"
            for name, value in event.get("validation", event.get("metrics", {})).items()
            if isinstance(value, int | float) and "/" not in name
        )
        epoch = f"epoch {event['epoch']}  " if "epoch" in event else ""
        return f"{epoch}step {event.get('step', '?')}  validation: {scores}"
    if kind in ("note", "warning"):
        return str(event.get("text", event.get("message", "")))
    if kind == "resume":
        return f"going on from step {event.get('from_step', event.get('step', '?'))}"
    if kind in ("start", "restart", "done", "published"):
        told = {key: value for key, value in event.items() if key != "event" and _short(value)}
        facts = ", ".join(f"{key} {value}" for key, value in told.items())
        return f"{kind}: {facts}" if facts else str(kind)
    return ""


def _step_parts(event: Mapping[str, Any]) -> list[str]:
    steps, epochs, eta = event.get("steps"), event.get("epochs"), event.get("eta_s")
    return [
        f"epoch {event['epoch']}{f'/{epochs}' if epochs else ''}" if "epoch" in event else "",
        f"step {event.get('step', '?')}{f'/{steps}' if steps else ''}",
        f"loss {event['loss']:.4f}" if isinstance(event.get("loss"), float) else "",
        f"{event['goal']} {event['best']:.4f}"
        if isinstance(event.get("best"), float) and "goal" in event
        else "",
        f"{event['items_per_s']:,.0f} items/s" if isinstance(event.get("items_per_s"), int | float) else "",
        f"{_clock(eta)} left" if isinstance(eta, int | float) else "",
    ]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _short(value: Any) -> bool:
    return isinstance(value, int | float | str) and len(str(value)) <= 60
