"""A search as a person sees it on a terminal: a table, best trials first, never longer than the screen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TextIO

from penstock.cli.progress import Progress, short

UNDER_WAY = ("running", "waiting")  # waiting: for a place on the cluster
SHOWN = ("running", "finished", "paused", "failed", "waiting")


class Live:
    """Shows events; those of trials in a table, the others above it. Use as a context manager."""

    def __init__(self, out: TextIO) -> None:
        self._progress = Progress(out)  # until the first trial
        self._out = out
        self._rows: dict[int, Mapping[str, Any]] = {}
        self._live: Any = None

    def __enter__(self) -> Live:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is None:
            self._progress.__exit__(*error)
        else:
            self._live.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """One event of prepare or of the search."""
        if event["event"] != "trial" or not self._out.isatty():
            if self._live is None:
                self._progress.show(event)
            return
        from rich.console import Console
        from rich.live import Live as Screen

        self._rows[event["trial"]] = event
        if self._live is None:
            self._progress.__exit__(None, None, None)
            self._live = Screen(console=Console(file=self._out, highlight=False), refresh_per_second=4)
            self._live.start()
        self._live.update(table(self._rows, self._live.console.size.height - 6))


def table(rows: Mapping[int, Mapping[str, Any]], most: int) -> Any:
    """At most `most` trials: the best ones, and what is under way."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    order = sorted(rows.values(), key=rank)
    running = [row for row in order if row["state"] in UNDER_WAY]
    kept = [row for row in order if row["state"] not in UNDER_WAY][: max(most - len(running), 1)]
    goal = str(order[0]["goal"])
    states = [sum(row["state"] == state for row in order) for state in SHOWN]
    caption = ", ".join(f"{count} {state}" for state, count in zip(SHOWN, states, strict=True) if count)
    made = Table(box=None, caption=caption, caption_justify="left", pad_edge=False)
    for name in ("trial", f"best {goal}", "state", "validations"):
        made.add_column(name, no_wrap=True)
    made.add_column("settings")  # the one that gives way on a narrow screen
    for row in sorted([*running, *kept][: max(most, 1)], key=rank):
        settings = " ".join(f"{name}={short(value)}" for name, value in row["config"].items())
        far = f"{row['validations']}/{row['of']}"
        cells = (row["trial"], short(row["metric"]), row["state"], far)
        last = Text(row.get("why") or settings, no_wrap=True, overflow="ellipsis")
        made.add_row(*(escape(str(cell)) for cell in cells), last)
    return made


def rank(row: Mapping[str, Any]) -> tuple[bool, float, int]:
    """Best first, then those without a result."""
    value = row["metric"]
    known = row["state"] != "failed" and not math.isnan(value)
    worth = value if row["mode"] == "min" else -value
    return not known, worth if known else 0.0, row["trial"]
