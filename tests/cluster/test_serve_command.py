"""`penstock serve` as a process: ready, stopped, and nothing left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import httpx
import psutil
import pytest

from penstock.store import Store
from tests import probe
from tests.cluster.serving import start


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 0, marks=pytest.mark.soak)]
)
def test_a_signal_stops_it_and_no_process_stays(store: Store, number: signal.Signals, code: int) -> None:
    probe.publish(store)
    serving = start(store)
    assert serving.stdout
    url = json.loads(serving.stdout.readline())["url"]
    answer = httpx.post(
        f"{url}/v1/models/probe/predict", content=probe.png(), headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 200
    children = psutil.Process(serving.pid).children(recursive=True)
    assert len(children) > 3
    serving.send_signal(number)
    try:
        _, errors = serving.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        serving.terminate()
        raise
    assert serving.returncode == code, errors
    assert len(errors.splitlines()) <= 1, errors
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_a_model_that_fails_its_own_example_is_said_in_one_line_and_no_process_stays(store: Store) -> None:
    probe.publish(store, scale=0.0)
    serving = start(store)
    out, errors = serving.communicate(timeout=120)
    assert serving.returncode == 2 and out == ""
    assert "probe cannot be served: a scale of zero" in errors and len(errors.splitlines()) == 1
    left = [p.pid for p in psutil.process_iter() if session_of(p) == serving.pid]
    assert left == []


def session_of(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return 0
