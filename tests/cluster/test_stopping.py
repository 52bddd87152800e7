"""A run that is told to stop stops in order, whoever tells it: one line, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from penstock.training import checkpoint
from tests.command import command, environment

SAYS = "penstock: stopped; the same command (without --fresh) goes on from the newest checkpoint\n"


@pytest.mark.parametrize("workers", [1, 2], ids=["in one process", "on Ray"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_in_one_line(number: signal.Signals, workers: int, tmp_path: Path) -> None:
    words = ("train", "toy", "--name", "mine", "train.epochs=100000", "train.checkpoint_every=20", "--json")
    training = subprocess.Popen(
        command(*words, "--workers", str(workers)),
        env=environment(tmp_path, env={"RAY_ADDRESS": ""}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 120
        while not checkpoint.steps(tmp_path / "runs" / "mine" / "checkpoints"):
            assert training.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        children = psutil.Process(training.pid).children(recursive=True)
        assert (len(children) > 3) == (workers > 1)
        os.killpg(training.pid, number)  # as a terminal does, and `timeout`
        _, errors = training.communicate(timeout=60)
    finally:
        if training.poll() is None:
            os.killpg(training.pid, signal.SIGKILL)
    assert (training.returncode, errors) == (128 + number, SAYS)
    assert psutil.wait_procs(children, timeout=20)[1] == []
