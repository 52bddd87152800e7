"""Workers come and go while a run trains: nodes that die, nodes that are added, a worker that hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from penstock import experiment
from penstock.store import Store
from penstock.training.run import Run
from tests.cluster.driven import Driven
from tests.cluster.nodes import Nodes, nodes
from tests.paced import check_book

FP64 = 1e-9
"""Of the loss curve against a run of one worker, in float64; EXACT.md."""


def test_a_worker_hangs_and_a_node_dies_and_every_item_is_still_trained_on_once(store: Store) -> None:
    words = ["data.items=250", "train.batch=10", "train.epochs=10", "train.checkpoint_every=5"]  # 160 steps
    words += ["train.precision=fp64", "train.validate_every=10"]
    with nodes(1, 1) as cluster, closing(start(store, cluster, "1:2", words, step_s=0.06)) as run:
        run.wait("the first steps", lambda: newest(run) >= 15)
        stopped = stop_a_worker(run)
        run.wait("a hung worker", lambda: run.events("hung"))
        run.wait("workers again", lambda: len(run.attempts()) == 2)
        run.wait("steps of theirs", lambda: newest(run) > run.attempts()[1]["from_step"] + 5)
        cluster.kill(run_nodes(run)[-1])
        result = run.result()
        assert not psutil.pid_exists(stopped)
    workers = [attempt["workers"] for attempt in result["attempts"]]
    assert workers[:2] == [2, 2] and workers[-1] == 1
    (hung,) = run.events("hung")
    passed_on = [event for event in run.printed() if event.get("event") == "hung"]
    assert len(passed_on) == 1 and passed_on[0]["rank"] == hung["rank"] and hung["seconds"] >= 5
    check_same_as_one_worker(store, run, words)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_four_workers_then_two_then_three(store: Store, figures: Callable[[dict[str, Any]], None]) -> None:
    words = ["data.items=1250", "train.batch=20", "train.epochs=20", "train.checkpoint_every=10"]
    words += ["train.precision=fp64", "train.validate_every=20"]
    with nodes(1, 1, 1, 1) as cluster, closing(start(store, cluster, "2:4", words, step_s=0.1)) as run:
        run.wait("four workers", lambda: run.attempts() and run.attempts()[0]["workers"] == 4)
        run.wait("steps of theirs", lambda: newest(run) >= 60)
        killed = time.time()
        for node in cluster.ids[:2]:
            cluster.kill(node)
        run.wait("two workers", lambda: run.attempts()[-1]["workers"] == 2)
        begun = len(run.attempts())
        run.wait("steps of theirs", lambda: newest(run) >= run.attempts()[-1]["from_step"] + 50)
        resumed = next(event["time"] for event in run.events("resume") if event["time"] > killed)
        added = time.time()
        cluster.add()
        run.wait("three workers", lambda: run.attempts()[-1]["workers"] == 3)
        grown = next(event["time"] for event in run.events("resume") if event["workers"] == 3)
        redone = steps_redone(run, begun)
        result = run.result(600)
    found = {
        "recovery_s": resumed - killed,
        "growth_s": grown - added,
        "steps_redone_to_grow": redone,
        "attempts": [(attempt["from_step"], attempt["workers"]) for attempt in result["attempts"]],
        "counted": check_same_as_one_worker(store, run, words),
    }
    figures(found)
    assert found["recovery_s"] <= 30
    assert redone <= 10  # steps between two checkpoints


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_node_that_is_about_to_go_is_left_after_a_checkpoint(
    store: Store, figures: Callable[[dict[str, Any]], None]
) -> None:
    words = ["data.items=250", "train.batch=10", "train.epochs=20", "train.checkpoint_every=5"]
    words += ["train.precision=fp64", "train.validate_every=20"]
    with nodes(1, 1) as cluster, closing(start(store, cluster, "1:2", words, step_s=0.1)) as run:
        run.wait("the first steps", lambda: newest(run) >= 15)
        announced = time.time()
        cluster.drain(cluster.ids[0], seconds=300)
        run.wait("one worker", lambda: run.attempts()[-1]["workers"] == 1)
        left = time.time()
        redone = steps_redone(run, len(run.attempts()) - 1)
        result = run.result()
    counted = check_same_as_one_worker(store, run, words)
    figures({"left_after_s": left - announced, "steps_redone": redone, "counted": counted})
    assert [attempt["workers"] for attempt in result["attempts"]] == [2, 1]
    assert redone <= 5


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_session")
def test_a_slow_worker_is_named_and_changes_nothing(
    store: Store, figures: Callable[[dict[str, Any]], None]
) -> None:
    words = ["data.items=1250", "train.batch=20", "train.epochs=8", "train.validate_every=8"]
    slow = [*words, "pace.step_s=0.03", "pace.slow_rank=1", "pace.slow_s=0.05"]
    result = experiment.train("paced", store=store, workers=3, name="slow", overrides=slow)
    even = [*words, "pace.step_s=0.03"]
    other = experiment.train("paced", store=store, workers=3, name="even", overrides=even)
    figures({"stragglers": list(result.stragglers), "even": list(other.stragglers)})
    assert [each["rank"] for each in result.stragglers] == [1] and list(other.stragglers) == []
    assert result.weights_sha256 == other.weights_sha256
    page = Path(result.report).read_text()
    assert "slow worker" in page and "times the others" in page
    assert "slow worker" not in Path(other.report).read_text()


def start(store: Store, cluster: Nodes, workers: str, words: list[str], step_s: float) -> Driven:
    book = store.root / "book"
    book.mkdir()
    path = store.runs / "elastic"
    pace = [f"pace.book={book}", f"pace.run={path}", f"pace.step_s={step_s}"]
    more = ["--workers", workers, "--health-timeout", "5"]
    return Driven(store.root, cluster.address, "train", "paced", *words, *pace, *more, name="elastic")


def newest(run: Driven) -> int:
    """Steps whose losses are logged."""
    return max((event["step"] for event in run.events("step")), default=0)


def workers_of(run: Driven) -> list[psutil.Process]:
    """The training workers of this test's cluster: those that keep its book."""
    pids = {int(path.stem) for path in (run.store / "book").glob("*.jsonl")}
    return [psutil.Process(pid) for pid in sorted(pids) if psutil.pid_exists(pid)]


def stop_a_worker(run: Driven) -> int:
    """SIGSTOP: it takes no step any more, and no order."""
    worker = workers_of(run)[-1]
    os.kill(worker.pid, signal.SIGSTOP)
    return worker.pid


def run_nodes(run: Driven) -> list[str]:
    """The nodes of the workers alive, in hex."""
    ids = []
    for worker in workers_of(run):
        words = worker.parent().cmdline()  # type: ignore[union-attr]
        ids.append(next(word.partition("=")[2] for word in words if word.startswith("--node_id=")))
    return ids


def steps_redone(run: Driven, begun: int) -> int:
    """The steps that attempt number `begun` had taken and the next one took again."""
    from_step = run.attempts()[begun]["from_step"]
    lines = (run.store / "book").glob("*.jsonl")
    counts = [text.count(f'"attempt": {begun - 1},') for text in (path.read_text() for path in lines)]
    return run.attempts()[begun - 1]["from_step"] + max(counts) - int(from_step)


def check_same_as_one_worker(store: Store, run: Driven, words: list[str]) -> dict[int, int]:
    clean = experiment.train("paced", store=store, workers=1, name="alone", overrides=words)
    mine, other = Run.open(store, "elastic"), Run.open(store, "alone")
    curve, fixed = mine.metrics.loss_curve(), other.metrics.loss_curve()
    assert len(curve) == len(fixed) == clean.steps
    assert np.abs(curve - fixed).max() < FP64
    from penstock.data.dataset import Dataset

    dataset = Dataset.load(mine.dataset_path)
    batch = mine.spec.config["train"]["batch"]
    return check_book(Path(run.store) / "book", mine.path, dataset, mine.spec.seed, batch)
