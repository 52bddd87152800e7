"""What goes wrong on a worker reaches the user as one line: an error is not tried again, a death is."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import RunError, RunFailed
from penstock.experiment import train
from penstock.store import Store
from penstock.training.run import Run


@pytest.mark.usefixtures("ray_session")
def test_an_error_on_a_worker_ends_the_run_in_one_line(store: Store) -> None:
    events: list[dict[str, Any]] = []
    words = ["optim.kind=sgd", "optim.lr=1e30", "optim.clip=0"]
    with pytest.raises(RunFailed) as failed:
        train("toy", store=store, workers=2, name="diverges", overrides=words, on_event=events.append)
    assert "the loss of step" in str(failed.value) and "lower optim.lr" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert len(Run.open(store, "diverges").attempts) == 1
    assert "start" in [event["event"] for event in events]


@pytest.mark.usefixtures("ray_session")
def test_more_workers_than_the_cluster_has_are_refused(store: Store) -> None:
    with pytest.raises(RunError, match=r"5 workers need 5 CPUs and there are 4; .*--cpus 5"):
        train("toy", store=store, workers=5)
