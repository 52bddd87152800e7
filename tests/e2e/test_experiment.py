"""The verb `train` in one process: each part once, whatever is killed, and every refusal in one line."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock import registry
from penstock.errors import ConfigError, ModelError, PenstockError, RunError
from penstock.experiment import TrainResult, runs, train
from penstock.store import Store
from penstock.training import checkpoint
from penstock.training.run import Run

pytestmark = pytest.mark.forks

SMALL = ("data.items=60", "train.epochs=2", "train.batch=8", "train.checkpoint_every=3")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A fork of a process whose OpenMP threads have run would wait for them for ever."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy(store: Store, *words: str, **asked: Any) -> TrainResult:
    return train("toy", store=store, workers=1, overrides=(*SMALL, *words), **asked)


def same(a: TrainResult, b: TrainResult) -> bool:
    """The same training: every bit of the weights and of the loss curve."""
    return (a.weights_sha256, a.loss_curve_sha256, a.metrics) == (
        b.weights_sha256,
        b.loss_curve_sha256,
        b.metrics,
    )


def in_child(act: Callable[[], object]) -> int:
    """`act` in a fork; its exit code, negative where a signal ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(kind: str, count: int = 1) -> Callable[[dict[str, Any]], None]:
    """Kills its process at the `count`-th event of `kind`."""
    left = [count]

    def on_event(event: dict[str, Any]) -> None:
        left[0] -= event["event"] == kind
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_event


# ---------------------------------------------------------------- once


def test_a_run_says_all_that_the_command_line_promises(store: Store) -> None:
    said = toy(store).to_json()
    named = {"run", "attempts", "model", "version", "metrics", "seconds", "items_per_s"}
    assert named | {"loss_curve_sha256", "weights_sha256"} <= set(said)
    assert json.loads(json.dumps(said)) == {**said, "aliases": list(said["aliases"])}
    assert set(said["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert said["attempts"] == [{"attempt": 1, "from_step": 0, "workers": 1}]
    assert said["run"].startswith("toy-") and said["aliases"] == ["candidate"]  # synthetic data
    assert runs(store)[0]["state"] == "finished" and runs(store)[0]["version"] == "toy@1"


def test_a_finished_run_gives_its_result_and_trains_nothing(store: Store) -> None:
    first = toy(store)
    events: list[dict[str, Any]] = []
    again = toy(store, on_event=events.append)
    assert again == first
    assert [event["event"] for event in events if event["event"] != "prepare"] == ["note"]
    assert len(registry.models(store, "toy")) == 1


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(store: Store, tmp_path: Any) -> None:
    undisturbed = toy(Store.open(tmp_path / "undisturbed"))
    for _ in range(2):
        assert in_child(lambda: toy(store, on_event=killed_at("checkpoint", 2))) == -signal.SIGKILL
        assert runs(store)[0]["state"] == "stopped"
    done = toy(store)
    assert same(done, undisturbed)
    assert len(done.attempts) == 3 and done.attempts[0]["from_step"] == 0
    assert done.attempts[2]["from_step"] >= done.attempts[1]["from_step"] > 0


def test_a_kill_between_publishing_and_the_result_publishes_once(store: Store) -> None:
    assert in_child(lambda: toy(store, on_event=killed_at("done"))) == -signal.SIGKILL  # trained, not kept
    assert in_child(lambda: toy(store, on_event=killed_at("published"))) == -signal.SIGKILL
    (run,) = (Run.open(store, row["run"]) for row in runs(store))
    (run.path / "result.json").unlink()  # as if the kill had come a moment earlier
    result = toy(store)
    assert result.version == 1 and len(registry.models(store, "toy")) == 1


def test_fresh_forgets_the_run_and_publishes_anew(store: Store) -> None:
    first, again = toy(store), toy(store, fresh=True)
    assert same(first, again) and (first.version, again.version) == (1, 2)
    assert len(again.attempts) == 1


def test_a_damaged_newest_checkpoint_is_passed_over_and_changes_nothing(store: Store, tmp_path: Any) -> None:
    assert in_child(lambda: toy(store, on_event=killed_at("checkpoint", 4))) == -signal.SIGKILL
    (run,) = (Run.open(store, row["run"]) for row in runs(store))
    steps = checkpoint.steps(run.checkpoints)
    damaged = run.checkpoints / f"{steps[-1]:08d}" / "tensors.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    events: list[dict[str, Any]] = []
    done = toy(store, on_event=events.append)
    (warning,) = (event["message"] for event in events if event["event"] == "warning")
    assert "damaged" in warning and "\n" not in warning
    assert done.attempts[-1]["from_step"] == steps[-2] > 0
    assert same(done, toy(Store.open(tmp_path / "undisturbed")))


# ---------------------------------------------------------------- refused


def test_a_name_used_by_another_config_names_the_settings(store: Store) -> None:
    toy(store, name="mine")
    with pytest.raises(
        RunError, match=r"run 'mine' exists with other settings: optim\.lr \(0\.01, now 0\.02\)"
    ):
        toy(store, "optim.lr=0.02", name="mine")


def test_a_run_that_is_running_is_refused(store: Store) -> None:
    first = toy(store)
    run = Run.open(store, first.run)
    (run.path / "result.json").unlink()
    with run.driver_lease(), pytest.raises(RunError, match="running already"):
        toy(store)
    with run.driver_lease(), pytest.raises(RunError, match="running already"):
        toy(store, fresh=True)
    assert toy(store).version == 1


@pytest.mark.parametrize("asked", [{"workers": 3}, {"workers": (3, 4)}, {"workers": 1, "threads": 3}])
def test_more_workers_than_cpus_is_refused_naming_the_flag(store: Store, asked: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=r"need 3 CPUs and there are 2; .*--cpus 3"):
        train("toy", store=store, cpus=2, **asked)


def test_wrong_words_are_refused_before_anything_is_made(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"optim\.lrr; did you mean optim\.lr"):
        toy(store, "optim.lrr=1")
    with pytest.raises(ConfigError, match=r"train\.epochs = 'two'"):
        toy(store, "train.epochs=two")
    with pytest.raises(PenstockError, match="no preset 'smok'; did you mean smoke"):
        toy(store, preset="smok")
    with pytest.raises(PenstockError, match="no workload 'toi'"):
        train("toi", store=store)
    with pytest.raises(ModelError, match="no model 'toy'"):
        toy(store, start_from="toy@1")
    assert not list(store.runs.iterdir())


# ---------------------------------------------------------------- kept on resume, started from, promoted


def test_a_run_keeps_its_threads(store: Store) -> None:
    cut_short = killed_at("checkpoint")
    assert in_child(lambda: toy(store, cpus=2, threads=2, on_event=cut_short)) == -signal.SIGKILL
    assert toy(store).threads == 2
    with pytest.raises(RunError, match=r"threads \(2, now 1\)"):
        toy(store, threads=1)


def test_fine_tuning_starts_from_a_published_version(store: Store) -> None:
    first = toy(store)
    tuned = toy(store, "optim.lr=0.0001", start_from="toy@candidate")
    assert (tuned.version, tuned.run == first.run) == (2, False)
    assert registry.find(store, "toy@2").card["tags"]["start_from"] == "toy@1"
    curves = [Run.open(store, result.run).metrics.loss_curve() for result in (first, tuned)]
    assert curves[1][0] < curves[0][0] / 2
    # the alias has moved on since; the same words still mean the same run
    assert toy(store, "optim.lr=0.0001", start_from="toy@1").version == 2


def test_promotion_goes_through_the_gate(store: Store) -> None:
    good = toy(store, "train.epochs=6", promote=True)
    assert "live" in good.aliases  # nothing was live before
    events: list[dict[str, Any]] = []
    bad = toy(store, "optim.lr=1e-9", promote=True, on_event=events.append)
    assert "live" not in bad.aliases and registry.aliases(store, "toy")["live"] == good.version
    (warning,) = (event["message"] for event in events if event["event"] == "warning")
    assert "toy@2 is not promoted" in warning and "penstock promote toy 2 live" in warning
    other_data = toy(store, "data.noise=0.1", "train.epochs=6", promote=True)  # judged on its own test split
    assert registry.aliases(store, "toy")["live"] == other_data.version
    registry.promote(store, "toy", good.version)
    again = toy(store, "data.noise=0.1", "train.epochs=6", promote=True)  # finished, and asked to be live
    assert "live" in again.aliases


def test_the_demo_may_make_its_first_version_live(store: Store) -> None:
    assert toy(store, live_first=True).aliases == ["live"]


def test_a_result_holds_only_what_json_can_hold(store: Store) -> None:
    result = toy(store)
    assert TrainResult(**json.loads(json.dumps(result.to_json()))) == dataclasses.replace(
        result, aliases=list(result.aliases)
    )
