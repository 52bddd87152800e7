"""The kills of tests/benchmarks/kills.py, ours and stock Serve's beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kills.py")


@pytest.mark.soak
@pytest.mark.timeout(4500)
@pytest.mark.parametrize("on", ["penstock", "stock"])
def test_a_hundred_kills(on: str, figures: Callable[..., None]) -> None:
    done = subprocess.run([sys.executable, SCRIPT, on], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    figures(found)
    assert found["requests"] >= 12_000
    if on == "penstock":
        assert found["kills"] == 100 and found["failed"] == 0, found
