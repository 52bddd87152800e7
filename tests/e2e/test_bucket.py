"""The command line on a store in a bucket, and a training that is killed and goes on on another machine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock import cluster, registry
from penstock.config import build, to_dict
from penstock.data.prepare import prepare
from penstock.errors import RunError
from penstock.registry import weights_sha256
from penstock.report import write_report
from penstock.store import Store, listed
from penstock.training import run as folders
from penstock.training.loop import train
from penstock.training.run import Run, RunSpec
from penstock.training.world import World
from penstock.tuning import on_ray
from penstock.tuning.listing import searches
from penstock.tuning.report import write
from penstock.tuning.result import TuneResult
from penstock.tuning.tune import tune
from tests import toy
from tests.buckets import another_machine
from tests.buckets import bucket as bucket  # fixtures
from tests.buckets import s3 as s3
from tests.command import Finished
from tests.workloads.test_tuning import in_this_process

SMALL = ("data.items=80", "train.epochs=3")


def toy_run(store: Store, name: str) -> tuple[Run, toy.Config]:
    config = build(toy.Config, toy.Config(), None, ("data.items=80", "train.epochs=4"))
    dataset = prepare(toy.workload, "synthetic", config.data, store)
    spec = RunSpec("toy", "tests.toy:workload", to_dict(config), dataset.id)
    return Run.create(store, name, spec), config


def train_here(store: Store, name: str, die_at: int = 0) -> tuple[str, list[int]]:
    """(hash of weights and loss curve, where each attempt began); with `die_at` the process is killed once
    that step is committed."""
    run, config = toy_run(store, name)

    def on_event(event: dict[str, object]) -> None:
        if die_at and event["event"] == "step" and int(str(event["step"])) > die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    from penstock.data.dataset import Dataset

    dataset = Dataset.load(run.dataset_path)
    outcome = train(toy.workload, config, dataset, run, World.alone(), on_event)
    hashes = f"{weights_sha256(outcome.weights)} {outcome.loss_curve_sha256}"
    return hashes, [attempt["from_step"] for attempt in run.attempts]


@pytest.mark.forks
def test_a_killed_training_goes_on_from_the_bucket_on_another_machine_bit_for_bit(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, _ = train_here(Store.open(tmp_path / "folder"), "whole")
    pid = os.fork()
    if pid == 0:
        try:
            train_here(Store.open(bucket), "killed", die_at=10)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with another_machine(tmp_path / "empty"):
        assert not (tmp_path / "empty").exists()
        store = Store.open(bucket)
        finished, began = train_here(store, "killed")
        assert finished == undisturbed
        assert began[0] == 0 and began[1] > 0
        assert write_report("killed", store=store).stat().st_size > 10_000
    with another_machine(tmp_path / "third"):  # a reader that has nothing yet
        run = Run.open(Store.open(bucket), "killed")
        assert [attempt["from_step"] for attempt in run.attempts] == began
        assert listed(run.checkpoints) != []
        with pytest.raises(RunError, match="is running already"), run.driver_lease(), run.driver_lease():
            pass
        with run.driver_lease():
            folders.remove(run)
        anew, _ = toy_run(Store.open(bucket), "killed")
        assert anew.identity != run.identity and not anew.attempts and not listed(anew.checkpoints)
    with another_machine(tmp_path / "empty"):  # where the files of the old one still lie
        found = Run.open(Store.open(bucket), "killed")
        assert found.identity == anew.identity
        assert found.newest_checkpoint(print) is None and found.result is None


def test_a_search_goes_on_on_another_machine_and_trains_nothing_twice(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "drive", in_this_process)
    monkeypatch.setattr(cluster, "ensure_ray", lambda cpus: None)

    def search(trials: int, fresh: bool = False) -> TuneResult:
        given = {"preset": "smoke", "overrides": SMALL, "name": "mine", "fresh": fresh}
        return tune("toy", trials=trials, store=Store.open(bucket), **given)  # type: ignore[arg-type]

    first = search(2)
    with another_machine(tmp_path / "other"):
        (row,) = searches(Store.open(bucket))
        assert (row["state"], row["trials"], row["step"]) == ("finished", "2/2", first.steps)
        assert write(Store.open(bucket), "mine").read_text() == Path(first.report).read_text()
        again = search(2)
        assert (again.best, again.steps, again.version) == (first.best, first.steps, first.version)
        more = search(3)
        assert more.steps > first.steps and more.trials[:2] != [] and len(more.trials) == 3
    back = search(3)
    assert (back.best, back.steps, back.version) == (more.best, more.steps, more.version)
    with another_machine(tmp_path / "third"):
        fresh = search(2, fresh=True)  # forgets what this machine has never seen
        assert fresh.trials == first.trials and fresh.steps == first.steps
    (row,) = searches(Store.open(bucket))
    assert row["trials"] == "2/2" and row["step"] == first.steps


def test_the_command_line_keeps_everything_in_a_bucket(
    bucket: str, tmp_path: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", bucket)
    words = ("train", "toy", "--workers", "1", "--json", "--name", "first", *SMALL)
    made = cli(*words).json
    assert made["version"] == 1
    assert cli(*words).json["weights_sha256"] == made["weights_sha256"]  # finished: nothing is trained
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "another"))
    second = cli("train", "toy", "--workers", "1", "--json", "--seed", "1", *SMALL).json
    assert second["version"] == 2
    assert cli("promote", "toy", "2", "live", "--force", "--json").json["aliases"]["live"] == 2
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "third"))
    models = cli("models", "--json").json["models"]
    assert [(one["version"], one["aliases"]) for one in models] == [(1, []), (2, ["candidate", "live"])]
    assert not list((tmp_path / "third").rglob("weights.safetensors"))  # a listing brings no weights
    assert cli("evaluate", "toy", "--json").json["metrics"]["accuracy"] == second["metrics"]["accuracy"]
    pixels = tmp_path / "request.json"
    pixels.write_text(json.dumps(toy.workload.request.model_config["json_schema_extra"]["examples"][0]))
    assert "answer" in cli("predict", "toy", pixels, "--json").json["answers"][0]
    runs = cli("runs", "--json").json["runs"]
    assert [(row["run"], row["state"]) for row in runs if row["run"] == "first"] == [("first", "finished")]
    assert cli("compare", "toy@2", "toy@1", "--json").json["verdict"]
    assert Path(cli("report", "first", "--json").json["report"]).is_file()
    store = Store.open(bucket)
    assert registry.aliases(store, "toy") == {"candidate": 2, "live": 2}


def test_the_command_line_says_in_one_line_what_is_wrong_with_a_bucket(
    bucket: str, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "write s3://BUCKET/PREFIX" in cli("models", "--store", "s3:///x").error
    for verb in (["predict", "toy", "x.json"], ["export", "toy", "--to", "onnx"]):
        assert "'s3://b00/x' is no folder or file" in cli(*verb, "--output", "s3://b00/x").error
    assert "no bucket 'nowhere'" in cli("runs", "--store", "s3://nowhere/x").error
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 does not answer" in cli("train", "toy", "--store", "s3://b00/x").error
