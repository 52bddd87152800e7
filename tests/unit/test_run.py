"""A run's folder: asked for once, driven by one process, written by one process, without gap or duplicate."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from penstock import experiment
from penstock.errors import RunError, StoreError
from penstock.store import Store
from penstock.training import run as folders
from penstock.training.events import EventLog
from penstock.training.run import Run, RunSpec

SPEC = RunSpec(
    workload="toy",
    reference="tests.toy:workload",
    config={"optim": {"lr": 0.1, "betas": [0.9, 0.999]}, "train": {"epochs": 3}},
    dataset="0123456789abcdef",
    seed=7,
    workers=2,
)


@pytest.fixture
def run(store: Store) -> Run:
    return Run.create(store, "first", SPEC)


@contextmanager
def elsewhere(run: Run, lock: str) -> Iterator[int]:
    """Another process holds `run.<lock>()`; its pid."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def hold() -> None:
        with getattr(run, lock)():
            ready.set()
            signal.pause()

    process = context.Process(target=hold)
    process.start()
    assert ready.wait(10) and process.pid is not None
    try:
        yield process.pid
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()


# ---------------------------------------------------------------- asked for


def test_the_same_request_finds_the_same_run(store: Store, run: Run) -> None:
    again = Run.create(store, "first", SPEC)
    assert again.identity == run.identity and again.spec == run.spec == Run.open(store, "first").spec


def test_more_workers_are_no_other_run(store: Store, run: Run) -> None:
    assert Run.create(store, "first", dataclasses.replace(SPEC, workers=4)).identity == run.identity


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"config": {"optim": {"lr": 0.2, "betas": [0.9, 0.999]}, "train": {"epochs": 3}}},
            "optim.lr (0.1, now 0.2)",
        ),
        ({"config": {"optim": {"lr": 0.1, "betas": [0.8, 0.999]}, "train": {"epochs": 3}}}, "optim.betas"),
        ({"seed": 8}, "seed (7, now 8)"),
        ({"dataset": "f" * 16}, "dataset"),
        ({"threads": 2}, "threads (1, now 2)"),
        ({"start_from": "toy@1"}, "start_from (None, now 'toy@1')"),
        ({"model": "other"}, "model"),
    ],
)
def test_a_name_taken_by_another_config_is_refused_naming_what_differs(
    store: Store, run: Run, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(RunError) as refused:
        Run.create(store, "first", dataclasses.replace(SPEC, **change))
    line = str(refused.value)
    assert told in line and "'first'" in line and "--fresh" in line and "--name" in line and "\n" not in line


@pytest.mark.parametrize("name", ["", "../up", "Big", "a/b", ".hidden", "x" * 65])
def test_a_name_that_could_lead_elsewhere_is_refused(store: Store, name: str) -> None:
    with pytest.raises(RunError, match="run name"):
        Run.create(store, name, SPEC)
    with pytest.raises(RunError, match="no run"):
        Run.open(store, name)


def test_a_run_that_does_not_exist_suggests_the_nearest(store: Store, run: Run) -> None:
    with pytest.raises(RunError, match="no run 'frist'; did you mean first"):
        Run.open(store, "frist")


def test_a_damaged_run_json_is_one_line(store: Store, run: Run) -> None:
    (run.path / "run.json").write_text('{"format": 1, "spe')
    with pytest.raises(RunError, match=r"run 'first': run\.json is damaged") as damaged:
        Run.create(store, "first", SPEC)
    assert "\n" not in str(damaged.value)


def test_a_removed_run_leaves_nothing_and_the_next_is_another(store: Store, run: Run) -> None:
    with run.driver_lease():
        folders.remove(run)
    assert folders.names(store) == [] and list(store.runs.iterdir()) == []
    assert Run.create(store, "first", SPEC).identity != run.identity


# ---------------------------------------------------------------- who may do what


def test_a_second_driver_is_refused_while_the_first_lives_and_not_after(run: Run) -> None:
    with elsewhere(run, "driver_lease") as pid:
        assert run.driver_alive()
        with pytest.raises(RunError, match=rf"run 'first' is running already \(process {pid}\)"):
            with run.driver_lease():
                raise AssertionError("two drivers")
    with run.driver_lease():  # the kernel dropped it with the killed process
        pass


def test_a_writer_waits_for_the_orphan_before_it(run: Run) -> None:
    context = multiprocessing.get_context("fork")
    entered = context.Event()

    def write() -> None:
        with run.writer_fence():
            entered.set()

    with elsewhere(run, "writer_fence"):
        process = context.Process(target=write)
        process.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    process.join()


# ---------------------------------------------------------------- what was done


def test_attempts_are_listed_in_order(run: Run) -> None:
    assert run.attempts == []
    run.log_attempt(0, 2)
    run.log_attempt(40, 4)
    assert run.attempts == [
        {"attempt": 1, "from_step": 0, "workers": 2},
        {"attempt": 2, "from_step": 40, "workers": 4},
    ]


def test_metrics_read_back_bit_for_bit(run: Run) -> None:
    losses = np.random.default_rng(0).standard_normal(50)
    for start in range(0, 50, 25):
        run.metrics.append({"step": s, "loss": float(losses[s])} for s in range(start, start + 25))
        run.metrics.append([{"step": start, "epoch": 1, "validation": {"accuracy": 0.5}}])
    assert run.metrics.sync() == (run.path / "metrics.jsonl").stat().st_size
    assert run.metrics.loss_curve().tobytes() == losses.tobytes()
    assert [line["step"] for line in run.metrics.validations()] == [0, 25]


def test_resuming_cuts_the_metrics_back_to_the_checkpoint(run: Run) -> None:
    run.metrics.append({"step": s, "loss": 1.0} for s in range(10))
    length = run.metrics.sync()
    run.metrics.append({"step": s, "loss": 2.0} for s in range(10, 15))
    with run.metrics.path.open("a") as file:
        file.write('{"step": 15, "lo')  # killed in the middle of a line
    assert len(run.metrics.loss_curve()) == 15  # a reader passes over it
    run.metrics.truncate(length)
    run.metrics.append([{"step": 10, "loss": 3.0}])
    assert run.metrics.loss_curve().tolist() == [1.0] * 10 + [3.0]


def test_metrics_shorter_than_the_checkpoint_says_are_refused(run: Run) -> None:
    with pytest.raises(StoreError, match="--fresh"):
        run.metrics.truncate(10)


@pytest.mark.parametrize("steps", [[0, 1, 3], [0, 1, 1], [1, 0]])
def test_a_gap_or_a_duplicate_in_the_metrics_is_noticed(run: Run, steps: list[int]) -> None:
    run.metrics.append({"step": s, "loss": 1.0} for s in steps)
    with pytest.raises(StoreError, match="missing or repeated"):
        run.metrics.loss_curve()


def test_an_outcome_is_committed_once_and_checked(run: Run) -> None:
    import torch

    assert run.outcome() is None
    run.save_outcome({"w": torch.ones(2)}, {"steps": 3})
    run.save_outcome({"w": torch.zeros(2)}, {"steps": 4})  # an orphan comes second
    found = run.outcome()
    assert found is not None and found[1] == {"steps": 3} and float(found[0]["w"].sum()) == 2.0
    tensors = run.path / "outcome" / "00000000" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    assert run.outcome() is None  # made again from the last checkpoint


def test_a_run_that_is_being_made_is_not_listed(store: Store, run: Run) -> None:
    aside = store.runs / ".tmp-4164-d5610c7a3fe1"
    aside.mkdir()
    (aside / "run.json").write_bytes((run.path / "run.json").read_bytes())
    assert folders.names(store) == [run.name]


def test_the_newest_event_is_found_from_the_log_s_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    events = EventLog(run.path / "events.jsonl")
    lines = [{"event": "step", "step": n, "nested": {"step": -1}} for n in range(3_000)]
    lines += [{"event": "warning", "message": "x" * 40_000}, {"event": "done", "speed": {"step": -1}}]
    events.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read: list[int] = []
    since = EventLog.since
    monkeypatch.setattr(EventLog, "since", lambda log, start: read.append(start) or since(log, start))
    found = events.last_with("step")
    assert found is not None and found["step"] == 2_999
    assert min(read) > 0, "a long log is not read whole"
    assert events.last_with("never") is None and min(read) == 0
    first = events.last_with("message")  # behind more than one block
    assert first is not None and len(first["message"]) == 40_000


def test_events_are_followed_across_a_line_cut_short(run: Run) -> None:
    events = EventLog(run.path / "events.jsonl")

    def since(offset: int) -> list[tuple[str, int]]:
        return [(event["event"], event["step"]) for event in events.since(offset)[0]]

    assert since(0) == [] and events.last_with("step") is None
    events.append({"event": "step", "step": 1})
    assert since(0) == [("step", 1)]
    offset = events.end()
    with events.path.open("a") as file:
        file.write('{"event": "ste')  # its writer was killed
    assert since(offset) == []
    events.append({"event": "resume", "step": 1})
    events.append({"event": "step", "step": 2})
    assert since(offset) == [("resume", 1), ("step", 2)]
    assert (events.last_with("step") or {})["step"] == 2


def test_several_processes_write_events_and_none_is_lost(run: Run) -> None:
    writer = """
import sys
from pathlib import Path
from penstock.training.events import EventLog
for i in range(200):
    EventLog(Path(sys.argv[1])).append({"event": "step", "step": i, "by": sys.argv[2], "more": "x" * 20_000})
"""
    events = EventLog(run.path / "events.jsonl")
    command = [sys.executable, "-c", writer, str(events.path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [each.wait(60) for each in writers] == [0, 0, 0]
    told, _ = events.since(0)
    for number in range(3):
        assert [event["step"] for event in told if event["by"] == str(number)] == list(range(200))


def test_a_damaged_result_is_one_line(run: Run) -> None:
    assert run.result is None
    run.write_result({"run": "first"})
    assert run.result == {"run": "first"}
    (run.path / "result.json").write_text(json.dumps({"run": "first"})[:-3])
    with pytest.raises(StoreError, match=r"result\.json is damaged"):
        _ = run.result


def test_runs_are_listed_once_however_many_there_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        Run.create(store, f"run-{number}", SPEC)
    listings = []
    whole = folders.names
    monkeypatch.setattr(folders, "names", lambda place: listings.append(place) or whole(place))
    assert len(experiment.runs(store)) == 5
    assert len(listings) == 1, "a listing for each run: a thousand runs take seconds"
