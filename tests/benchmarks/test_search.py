"""What successive halving saves: the whole grid trained, and the same grid by ASHA."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from penstock import catalog
from penstock.store import Store
from penstock.tuning.asked import wanted
from penstock.tuning.space import grid
from penstock.tuning.tune import TuneResult, tune

GRIDS = {
    "recsys": [
        "optim.lr=choice(3e-4,1e-3,3e-3,1e-2,3e-2)",
        "model.heads=choice(4,8,16)",
        "model.hidden=choice(16,64)",
        *(
            "data.users=300",
            "data.items=150",
            "data.ratings=8000",
            "train.epochs=9",
            "train.validate_every=1",
        ),
    ],
    "speech": [
        "optim.lr=choice(3e-4,1e-3,3e-3,1e-2,3e-2)",
        "model.dropout=choice(0.0,0.3,0.6)",
        "model.features=choice(mfcc,logmel)",
        *("data.clips=480", "train.batch=16", "train.epochs=9"),
    ],
}


def search(workload: str, scheduler: str, words: Sequence[str], store: Store) -> TuneResult:
    return tune(
        workload,
        preset="smoke",
        scheduler=scheduler,
        searcher="grid",
        overrides=words,
        name=f"{workload}-{scheduler}",
        store=store,
    )


@pytest.mark.soak
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("workload", GRIDS)
def test_asha_finds_the_best_of_a_grid_for_less(
    workload: str, store: Store, ray_session: None, figures: Callable[[dict[str, object]], None]
) -> None:
    words = GRIDS[workload]
    space, _ = wanted(catalog.find(workload), "asha", "grid", "smoke", None, words)
    assert grid(space, 0)[0] == 30
    began = time.monotonic()
    whole = search(workload, "none", words, store)
    middle = time.monotonic()
    halved = search(workload, "asha", words, store)
    assert len(whole.trials) == len(halved.trials) == 30
    assert all(row["state"] == "finished" for row in whole.trials)
    best, found = whole.best["metric"], halved.best["metric"]
    compute, off = halved.steps / whole.steps, abs(found - best) / abs(best)
    figures(
        {
            "goal": whole.goal,
            "best of the grid": best,
            "found by ASHA": found,
            "off": round(off, 4),
            "steps of the grid": whole.steps,
            "steps of ASHA": halved.steps,
            "share of the compute": round(compute, 3),
            "seconds": [round(middle - began), round(time.monotonic() - middle)],
        }
    )
    assert off <= 0.01
    assert compute <= 0.40
