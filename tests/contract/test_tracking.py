"""Trackers: each committed step once, whatever is killed; no change to a run, no end to one."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from penstock.config import to_dict
from penstock.errors import PenstockError
from penstock.experiment import TrainResult, train
from penstock.store import Store
from penstock.tracking import Target, follow, targets, without_secrets
from penstock.tracking.mlflow import key_of
from penstock.tracking.points import RunLog
from penstock.training import checkpoint
from penstock.training.events import EventLog
from penstock.training.run import Run, RunSpec
from tests.command import Finished
from tests.toy import Config as ToyConfig

SMALL = ("data.items=60", "train.batch=8", "train.checkpoint_every=3")
Points = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A fork of a process whose OpenMP threads have run would wait for them for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow's, for all tests: making its tables takes seconds, and so does importing it, in every child."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'm.db'}"
    MlflowClient(uri).search_experiments()
    return uri


def toy(store: Store, *track: str, epochs: int = 2, **asked: Any) -> TrainResult:
    words = (*SMALL, f"train.epochs={epochs}")
    return train("toy", store=store, workers=1, overrides=words, track=track, **asked)


def logged(run: Run) -> Points:
    """What the run's own log says, by the names that trackers use."""
    points: Points = {}
    for line in run.metrics:
        values = {f"validation/{name}": value for name, value in line.get("validation", {}).items()}
        values |= {name: value for name, value in line.items() if name not in ("step", "validation")}
        for name, value in values.items():
            points.setdefault(name, []).append((line["step"], value))
    return points


def on_the_board(folder: Path) -> Points:
    """What TensorBoard's own reader finds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return {
        tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]
    }


def in_mlflow(uri: str, run: Run) -> tuple[Any, Points]:
    """The one MLflow run that shows `run`, and its points."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`penstock.identity` = '{run.identity}'")
    keys = list(found.data.metrics)
    return found, {
        key: sorted((each.step, each.value) for each in client.get_metric_history(found.info.run_id, key))
        for key in keys
    }


def assert_each_once(found: Points, run: Run, exact: bool) -> None:
    """All that the log says, bit for bit or as float32, and nothing twice."""
    for name, points in logged(run).items():
        expected = points if exact else [(step, float(np.float32(value))) for step, value in points]
        assert found[name] == expected, name
    for name, points in found.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), name
    assert [step for step, _ in found["learning_rate"]] == [step for step, _ in found["loss"]]


# ---------------------------------------------------------------- what is shown


def test_both_trackers_hold_what_the_run_s_own_log_says(store: Store, database: str, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    plain = toy(store, name="plain")
    result = toy(
        store, "tensorboard", f"mlflow:{database}", name="tracked", model="other", on_event=events.append
    )
    assert (result.weights_sha256, result.loss_curve_sha256) == (
        plain.weights_sha256,
        plain.loss_curve_sha256,
    )
    run = Run.open(store, "tracked")
    board = on_the_board(run.path / "tensorboard")
    found, flow = in_mlflow(database, run)
    assert_each_once(board, run, exact=False)
    assert_each_once(flow, run, exact=True)
    for name, figure in result.metrics.items():
        for key, part in (
            (f"test/{name}", "value"),
            (f"test/{name}/low", "low"),
            (f"test/{name}/high", "high"),
        ):
            assert flow[key] == [(result.steps, figure[part])]
            assert board[key] == [(result.steps, pytest.approx(figure[part], rel=1e-6))]
    assert {step for step, _ in flow["items_per_s"]} == {
        event["step"] for event in events if event["event"] == "step"
    }
    assert found.data.params["optim.lr"] == "0.01" and found.data.params["seed"] == "0"
    assert found.data.params["data"] == result.dataset
    assert found.data.params["data_fingerprint"].startswith(result.dataset)
    assert found.data.tags["penstock.version"] == f"other@{result.version}"
    assert found.data.tags["penstock.report"] == result.report
    assert (found.info.run_name, found.info.status) == ("tracked", "FINISHED")
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert notes == [f"tracked: tensorboard --logdir {run.path / 'tensorboard'}; mlflow {database}"]
    assert "warning" not in {event["event"] for event in events}


def test_tensorboard_reads_the_settings_and_the_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    monkeypatch.setenv("PENSTOCK_TRACK", f"tensorboard:{tmp_path / 'boards'}")
    result = train("toy", store=store, workers=1, overrides=SMALL)
    (folder,) = (tmp_path / "boards").iterdir()
    assert folder.name.startswith(f"{result.run}.")
    board = EventAccumulator(str(folder))
    board.Reload()
    content = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["optim.lr"].string_value == "0.01" and hparams["data"].string_value == result.dataset
    (text,) = board.Tensors("published")
    assert f"toy@{result.version}" in text.tensor_proto.string_val[0].decode()


def test_a_finished_run_is_shown_afterwards_in_mlflow_s_default_place(store: Store) -> None:
    result = toy(store)
    assert toy(store, "mlflow").weights_sha256 == result.weights_sha256
    run = Run.open(store, result.run)
    uri = f"sqlite:///{run.path / 'mlflow' / 'mlflow.db'}"
    _, flow = in_mlflow(uri, run)
    assert_each_once(flow, run, exact=True)
    assert not Path("mlruns").exists()


def test_what_no_checkpoint_holds_is_not_given_and_an_agent_s_figures_are(store: Store) -> None:
    spec = RunSpec("toy", "tests.toy:workload", to_dict(ToyConfig()), "none")
    run = Run.create(store, "plays", spec)
    log, events = RunLog(run), EventLog(run.path / "events.jsonl")

    def iterate(step: int, **more: float) -> None:
        run.metrics.append([{"step": step, "games": 4.0 * step, "positions": step, **more}])
        events.append({"event": "iteration", "step": step, "items_per_s": 10.0 * step})

    iterate(1)
    iterate(2, loss=0.5)
    run.metrics.append([{"step": 2, "epoch": 2, "validation": {"elo": 12.0}, "seconds": 3.0}])
    assert log.since(0) == ([], 0)
    checkpoint.save(run.checkpoints, 2, {}, {}, run.metrics.sync())
    iterate(3)
    points, step = log.since(0)
    given = {(point.step, name, value) for point in points for name, value in point.values.items()}
    assert step == 2 and given == {
        (1, "games", 4.0),
        (1, "positions", 1.0),
        (1, "items_per_s", 10.0),
        (2, "games", 8.0),
        (2, "positions", 2.0),
        (2, "items_per_s", 20.0),
        (2, "loss", 0.5),
        (2, "epoch", 2.0),
        (2, "validation/elo", 12.0),
        (2, "seconds", 3.0),
    }
    assert log.since(2) == ([], 2)
    length = run.metrics.sync()
    run.metrics.truncate(0)  # a restart behind the newest checkpoint: it was damaged
    checkpoint.save(run.checkpoints, 3, {}, {}, length)
    assert log.since(2) == ([], 2)
    for step in (1, 2, 3):
        iterate(
            step, loss=1 / 3, draws=1 / 3
        )  # longer lines: the length of the damaged one ends within the third
    assert run.metrics.sync() > length and log.since(2) == ([], 2)
    iterate(4)
    checkpoint.save(run.checkpoints, 4, {}, {}, run.metrics.sync())
    again, at = log.since(2)
    assert at == 4 and {point.step for point in again} == {3, 4}


# ---------------------------------------------------------------- kills


def state_of(run: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    files = list((run / "tracking").glob(f"{kind}-*.json"))
    return (files[0], json.loads(files[0].read_bytes())) if files else (Path(), {"step": 0})


def kill_once_tracked(run: Path) -> Callable[[dict[str, Any]], None]:
    """Kills its process at the third checkpoint, as soon as both trackers hold more than before."""
    left = [3]
    kinds = ("tensorboard", "mlflow")
    before = {kind: state_of(run, kind)[1]["step"] for kind in kinds}

    def on_event(event: dict[str, Any]) -> None:
        left[0] -= event["event"] == "checkpoint"
        if not left[0]:
            until = time.monotonic() + 60
            while any(state_of(run, kind)[1]["step"] == before[kind] for kind in kinds):
                assert time.monotonic() < until, "nothing is tracked"
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    return on_event


@pytest.mark.forks
def test_a_killed_run_that_goes_on_has_each_step_once(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "EVERY_S", 0.02)
    trackers = ("tensorboard", f"mlflow:{database}")
    whole = toy(store, name="whole", model="whole", epochs=4)
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                kill = kill_once_tracked(store.runs / "dies")
                toy(store, *trackers, name="dies", epochs=4, on_event=kill)
            finally:
                os._exit(70)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        before = state_of(store.runs / "dies", "mlflow")[1]
        assert 0 < before["step"] < whole.steps
    resumed = toy(store, *trackers, name="dies", epochs=4)
    assert (resumed.weights_sha256, resumed.loss_curve_sha256) == (
        whole.weights_sha256,
        whole.loss_curve_sha256,
    )
    run = Run.open(store, "dies")
    assert len(run.attempts) == 3
    found, flow = in_mlflow(database, run)
    assert found.info.run_id == before["mlflow_run"] and found.info.status == "FINISHED"
    assert_each_once(flow, run, exact=True)
    assert_each_once(on_the_board(run.path / "tensorboard"), run, exact=False)


def test_what_was_written_but_not_remembered_is_not_there_twice(store: Store, database: str) -> None:
    """A kill between a tracker's write and ours."""
    result = toy(store, "tensorboard", f"mlflow:{database}")
    run = Run.open(store, result.run)
    for kind in ("tensorboard", "mlflow"):
        path, state = state_of(run.path, kind)
        if kind == "tensorboard":
            board = run.path / "tensorboard" / "events.out.tfevents.penstock"
            state["length"] = 0
            board.write_bytes(board.read_bytes()[:-7])
        path.write_text(json.dumps({**state, "step": 3, "ended": False}))
    toy(store, "tensorboard", f"mlflow:{database}")
    assert_each_once(in_mlflow(database, run)[1], run, exact=True)
    assert_each_once(on_the_board(run.path / "tensorboard"), run, exact=False)


def test_a_run_that_fails_says_so_and_one_that_goes_on_is_the_same(store: Store, database: str) -> None:
    def fails(event: dict[str, Any]) -> None:
        if event["event"] == "validation":
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        toy(store, f"mlflow:{database}", on_event=fails)
    (path,) = store.runs.iterdir()
    run = Run.at(path)
    found, _ = in_mlflow(database, run)
    assert found.info.status == "FAILED"
    toy(store, f"mlflow:{database}")
    again, flow = in_mlflow(database, run)
    assert (again.info.run_id, again.info.status) == (found.info.run_id, "FINISHED")
    assert_each_once(flow, run, exact=True)


# ---------------------------------------------------------------- what it must not do


def test_nothing_is_written_or_imported_unless_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded() -> set[str]:
        return {name for name in sys.modules if name.partition(".")[0] in ("mlflow", "tensorboard")}

    for name in loaded():
        monkeypatch.delitem(sys.modules, name)
    result = train("toy", store=store, workers=1, overrides=SMALL)
    assert loaded() == set()
    left = {path.name for path in (store.runs / result.run).iterdir()}
    assert left & {"tracking", "tensorboard", "mlflow"} == set()


def test_a_tracker_draws_nothing_from_the_generators_of_training(store: Store, database: str) -> None:
    result = toy(store)

    def drawn() -> tuple[Any, ...]:
        kind, keys, *rest = np.random.get_state()
        return random.getstate(), kind, bytes(np.asarray(keys)), rest, bytes(torch.get_rng_state().numpy())

    before = drawn()
    toy(store, "tensorboard", f"mlflow:{database}")
    assert drawn() == before
    assert (store.runs / result.run / "tensorboard").is_dir()


def test_trackers_that_fail_are_one_warning_each_and_end_no_run(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # closed from here on: nobody answers
    file = tmp_path / "file"
    file.touch()
    events: list[dict[str, Any]] = []
    uri = f"http://anna:hunter2@127.0.0.1:{port}"
    result = toy(store, f"tensorboard:{file}", f"mlflow:{uri}", on_event=events.append)
    assert result.steps == Run.open(store, result.run).metrics.loss_curve().size
    warnings = sorted(event["message"] for event in events if event["event"] == "warning")
    assert len(warnings) == 2 and not any(event["event"] == "note" for event in events)
    assert warnings[0].startswith(f"mlflow (mlflow http://127.0.0.1:{port}): ")
    assert warnings[1].startswith(f"tensorboard (tensorboard --logdir {file}/")
    kept = "".join(path.read_text() for path in (store.runs / result.run / "tracking").iterdir())
    printed = capfd.readouterr()
    assert "hunter2" not in "".join([json.dumps(events), kept, printed.out, printed.err])
    assert "anna" not in "".join([json.dumps(events), kept, printed.out, printed.err])


def test_a_server_that_never_answers_holds_nothing_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "CLOSE_S", 0.5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")  # so that its thread ends soon
    events: list[dict[str, Any]] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        result = toy(store, f"mlflow:http://127.0.0.1:{port}", on_event=events.append)
    assert result.version == 1
    (warning,) = [event["message"] for event in events if event["event"] == "warning"]
    assert f"http://127.0.0.1:{port}" in warning


# ---------------------------------------------------------------- words


def test_words_become_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_TRACK", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert targets(None) == targets(()) == []
    monkeypatch.setenv("PENSTOCK_TRACK", "tensorboard, mlflow:http://host:5000")
    assert targets(None) == [Target("tensorboard"), Target("mlflow", "http://host:5000")]
    assert targets(["mlflow", "tensorboard:a/b", "mlflow"]) == [
        Target("mlflow"),
        Target("tensorboard", "a/b"),
    ]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert targets(["mlflow"]) == [Target("mlflow", "http://host:5000")]


def test_a_tracker_that_cannot_be_is_one_line(
    cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = cli("train", "speech", "--track", "tensorbord").error
    assert said == "penstock: no tracker 'tensorbord'; did you mean tensorboard?"
    assert "write sqlite:///FILE" in cli("train", "speech", "--track", "mlflow:ftp://a:b@host").error
    monkeypatch.setattr("penstock.tracking.find_spec", lambda name: None)
    for kind, module in (("tensorboard", "tensorboard"), ("mlflow", "mlflow")):
        said = cli("train", "speech", "--track", kind).error
        assert (
            said == f"penstock: --track {kind}: {module} is not installed; pip install 'penstock[trackers]'"
        )


def test_no_secret_is_shown() -> None:
    for text, shown in {
        "http://anna:hunter2@host:5000/x": "http://host:5000/x",
        "postgresql://anna:hun/t@er2@host/db?password=hunter2": "postgresql://host/db",
        "sqlite:////home/a@b/m.db": "sqlite:////home/a@b/m.db",
        "request to http://anna:hunter2@host/api failed": "request to http://host/api failed",
    }.items():
        assert without_secrets(text) == shown


def test_names_that_mlflow_does_not_take() -> None:
    assert key_of("validation/ndcg@10") == "validation/ndcg_at_10"
    assert key_of("map50/é") != key_of("map50/è")
    with pytest.raises(PenstockError, match="no tracker"):
        targets(["wandb"])
