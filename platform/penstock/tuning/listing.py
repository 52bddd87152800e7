"""The searches of a store, as `penstock runs` shows them."""

from __future__ import annotations

import json
from typing import Any

from penstock.experiment.queue import stands
from penstock.journal import Journal
from penstock.store import Store, current
from penstock.tuning.asked import names, read
from penstock.tuning.ledger import Ledger


def searches(store: Store) -> list[dict[str, Any]]:
    """One row each, with the columns of a run: `step` is of all trials together, `trials` those that came to
    an end or were stopped for good, of those asked for."""
    rows = []
    for name in names(store):
        asked, folder = read(store, name), store.searches / name
        ledger = Ledger(Journal(folder / "ledger.jsonl"))
        try:
            done = len(json.loads(current(folder / "result.json"))["trials"])
        except FileNotFoundError:
            done = 0
        published = ledger.published
        state, waits_for = stands(folder)
        if ledger.count and done >= ledger.count:
            state, waits_for = "finished", None
        elif ledger.count and state == "new":
            state = "stopped"
        ended = sum(trial.failed or trial.finished for trial in ledger.trials.values())
        rows.append(
            {
                "run": name,
                "workload": asked.spec.workload,
                "state": state,
                "step": ledger.steps(),
                "steps": None,
                "attempts": None,
                "workers": asked.spec.workers,
                "version": f"{published.model}@{published.version}" if published else None,
                "waits_for": waits_for,  # where trials wait each for itself, they say
                "search": name,
                "trials": f"{max(done, ended)}/{ledger.count}",
            }
        )
    return rows
