"""Ray's workers on other machines share only the bucket with the driver: here, each a mirror of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.store import Store
from tests.buckets import another_machine
from tests.buckets import bucket as bucket  # fixtures
from tests.buckets import s3 as s3
from tests.cluster.serving import started
from tests.command import penstock

SMALL = ("data.items=120", "train.epochs=2")


@pytest.mark.soak
def test_training_and_serving_on_ray_share_nothing_but_the_bucket(
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: Callable[[dict[str, object]], None],
) -> None:
    theirs = {"env_vars": {"PENSTOCK_CACHE": str(tmp_path / "workers")}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": theirs}))
    monkeypatch.setenv("PENSTOCK_STORE", bucket)
    began = time.monotonic()
    words = ("train", "toy", "--workers", "2", "--cpus", "3", "--json", *SMALL)
    done = penstock(*words)
    made = done.json
    seconds = time.monotonic() - began
    assert made["workers"] == 2 and made["version"] == 1
    events = [json.loads(line) for line in done.out.splitlines()[:-1]]
    assert {"start", "step", "checkpoint", "done"} <= {event.get("event") for event in events}
    assert list((tmp_path / "workers").rglob("dataset.json"))  # they brought it themselves
    # what they commit is not in the driver's mirror but where the driver looked
    assert list((tmp_path / "workers").rglob("checkpoints/0*"))
    assert not list((tmp_path / "cache").rglob("checkpoints/0*"))
    with another_machine(tmp_path / "third"):
        with started(Store.open(bucket), "toy@1") as (_, url):
            judged = penstock("evaluate", "toy@1", "--through", url, "--json").json
    assert judged["through"]["requests"] == judged["items"]
    assert judged["metrics"]["accuracy"]["value"] == made["metrics"]["accuracy"]["value"]
    figures({"train on two workers, s": round(seconds, 1), "served": judged["items"]})
