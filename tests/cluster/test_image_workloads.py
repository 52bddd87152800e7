"""On several workers: the maths of boxes, two opponents, replies and histories does not mind how many."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

FP64 = 1e-9
NAMES = [
    "detection",
    "gan",
    "chatbot",
    "chatbot:lstm",
    "go",
    "recsys",
    "recsys:sasrec",
    "recsys:factors",
    "recsys:itemknn",
]


@pytest.mark.parametrize("name", NAMES)
def test_workers_do_not_change_the_result_in_fp64(name: str) -> None:
    command = [sys.executable, "-m", "tests.cluster.image_parity", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    apart = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {apart}")
    assert apart.pop("steps") >= 4
    for workers, (weights, losses) in apart.items():
        assert weights <= FP64 and losses <= FP64, f"{workers} workers: {weights:.1e}, {losses:.1e}"
