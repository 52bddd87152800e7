"""Ray's workers on other machines share only the bucket with the driver: here, each a mirror of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from penstock.store import Store, fetched, gathered, listed
from penstock.training.run import Run
from tests.buckets import another_machine
from tests.buckets import bucket as bucket  # fixtures
from tests.buckets import s3 as s3
from tests.cluster.serving import started
from tests.command import command, penstock

GO = [
    *("data.size=3", "data.games=40", "data.matches=1", "model.width=8", "model.blocks=1", "play.judged=2"),
    *("train.batch=16", "train.checkpoint_every=2", "zero.sizes=[3]", "zero.boards=16", "zero.plies=8"),
    *("zero.visits=6", "zero.fast=3", "zero.opening=2", "zero.capacity=2000", "zero.minutes=0"),
    *("zero.iterations=12", "zero.rate_every=4"),
]
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


@pytest.mark.soak
def test_games_go_on_from_the_bucket_on_another_machine(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", bucket)
    words = ["train", "go", "--workers", "1", "--cpus", "2", "--name", "games", "--json", *GO]
    driver = subprocess.Popen(
        command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    checkpoints = Store.open(bucket).runs / "games" / "checkpoints"
    known = psutil.Process(driver.pid)
    while driver.poll() is None:
        if "games" in listed(Store.open(bucket).runs):
            fetched(checkpoints.parent)
            if listed(checkpoints):
                break
        time.sleep(0.2)
    assert driver.poll() is None, driver.communicate()[1].decode()
    started_by_it = known.children(recursive=True)
    for process in [known, *started_by_it]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    driver.communicate()
    made = penstock(*words, env={"PENSTOCK_CACHE": str(tmp_path / "another")}).json
    began = [attempt["from_step"] for attempt in made["attempts"]]
    assert began[0] == 0 and began[1] > 0 and made["steps"] == 12
    run = Run.open(Store.open(bucket), "games")
    assert len(listed(run.checkpoints)) > 0
    ratings = {path.stem for path in gathered(run.path / "selves").glob("*.elo")}
    assert len(ratings) >= 2
