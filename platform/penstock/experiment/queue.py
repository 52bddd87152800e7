"""What `penstock runs` says: how far each run is, and what one that waits is waiting for."""

from __future__ import annotations

from typing import Any

from penstock.store import Store
from penstock.training import run as folders
from penstock.training.events import EventLog
from penstock.training.run import Run


def runs(store: Store) -> list[dict[str, Any]]:
    """Every run of the store, by name: what it trains, its state, how far it is, what it
    published, and which search it is a trial of.

    State: `finished`, `running`, `stopped`, or `waiting`: its workers find no place. `waits_for` then says
    what it needs, what is free and who holds the rest; the run itself keeps that up to date while it waits,
    so no cluster has to be reached from here.
    """
    rows: list[dict[str, Any]] = []
    for name in folders.names(store):
        run = Run.open(store, name)
        result = run.result or {}
        events = EventLog(run.path / "events.jsonl")
        event = events.last_with("step") or {}
        alive = not result and run.driver_alive()
        last = events.last_with("event") or {}  # it says nothing else while it waits
        waits_for = last.get("for") if alive and last.get("event") == "waiting" else None
        state = "finished" if result else "waiting" if waits_for else "running" if alive else "stopped"
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
