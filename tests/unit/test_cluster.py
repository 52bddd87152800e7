"""What of a local Ray can be told without starting one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from penstock.cluster import ensure_ray, remove_dead_sessions
from penstock.errors import PenstockError


def test_a_ray_that_does_not_come_up_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because …")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(PenstockError, match=r"^cannot start a local Ray: .* during startup; `penstock doct"):
        ensure_ray()


def test_only_old_sessions_without_a_process_are_removed(tmp_path: Path) -> None:
    gone = 2**22 + 1  # beyond the largest pid that Linux gives
    long_ago = time.time() - 100_000

    def session(name: str, touched: float) -> Path:
        logs = tmp_path / name / "logs"
        logs.mkdir(parents=True)
        for path in (logs, logs.parent):
            os.utime(path, (touched, touched))
        return logs.parent

    old = session(f"session_2026-01-01_10-00-00_000000_{gone}", long_ago)
    alive = session(f"session_2026-01-01_10-00-00_000001_{os.getpid()}", long_ago)
    recent = session(f"session_2026-01-01_10-00-00_000002_{gone + 1}", time.time())
    other = session("other_1", long_ago)
    remove_dead_sessions(tmp_path)
    assert not old.exists()
    assert alive.exists() and recent.exists() and other.exists()
    remove_dead_sessions(tmp_path / "absent")
