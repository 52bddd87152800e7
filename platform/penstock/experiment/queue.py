"""What `penstock runs` says: how far each run is, and what one that waits is waiting for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from penstock.store import Store, lock_held
from penstock.training import run as folders
from penstock.training.events import EventLog
from penstock.training.run import Run


def runs(store: Store) -> list[dict[str, Any]]:
    """Every run of the store, by name: what it trains, its state, how far it is, what it
    published, and which search it is a trial of.

    State: `finished`, `running`, `stopped`, `new` where nothing was begun yet, or `waiting`: its workers find
    no place. `waits_for` then says what it needs, what is free and who holds the rest; the run itself, or the
    search that it is a trial of, keeps that up to date while it waits, so no cluster has to be reached from
    here.
    """
    standing = cache(stands)
    rows: list[dict[str, Any]] = []
    for name in folders.names(store):
        run = Run.at(store.runs / name)
        result = run.result or {}
        event = EventLog(run.path / "events.jsonl").last_with("step") or {}
        search = run.spec.search  # its driver is the trial's
        state, waits_for = standing(store.searches / search if search else run.path)
        if result:
            state, waits_for = "finished", None
        elif search and state == "running" and (waits_for := waiting(run.path)):
            state = "waiting"  # it has workers of its own
        rows.append(
            {
                "run": name,
                "workload": run.spec.workload,
                "state": state,
                "step": result.get("steps", event.get("step", 0)),
                "steps": result.get("steps", event.get("steps")),
                "attempts": len(run.attempts),
                "workers": run.spec.workers,
                "version": f"{result['model']}@{result['version']}" if result else None,
                "waits_for": waits_for,
                "search": run.spec.search or None,
            }
        )
    return rows


def stands(folder: Path) -> tuple[str, str | None]:
    """The state of what is not finished in a run's or a search's folder, and what it waits for."""
    if not lock_held(folder / ".driver.lock"):
        return "stopped" if _said(folder) else "new", None
    waits_for = waiting(folder)
    return "waiting" if waits_for else "running", waits_for


def waiting(folder: Path) -> str | None:
    """What it waits for, where it says that it does."""
    last = _said(folder)  # it says nothing else meanwhile
    return str(last["for"]) if last.get("event") == "waiting" else None


def _said(folder: Path) -> dict[str, Any]:
    return EventLog(folder / "events.jsonl").last_with("event") or {}
