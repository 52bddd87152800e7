"""Compiled code that several processes keep in one place at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

KERNEL = """
from workloads.go.compiling import compiled


@compiled
def doubled(x):
    return x + x
"""
COMPILE = """
import pathlib, sys, time
import numpy as np
from kernel import doubled
kind = sys.argv[1]
pathlib.Path(f"ready-{kind}").touch()
while len(list(pathlib.Path().glob("ready-*"))) < int(sys.argv[2]):
    time.sleep(0.001)
doubled(np.ones(3, kind))
"""
CHECK = """
import sys
import numpy as np
from kernel import doubled
for kind in sys.argv[1:]:
    found = doubled(np.full(3, 100, kind))
    assert found.dtype == (np.ones(1, kind) + np.ones(1, kind)).dtype, (kind, found.dtype)
    assert found.tolist() == (np.full(3, 100, kind) + np.full(3, 100, kind)).tolist(), (kind, found)
assert not doubled.stats.cache_misses and len(doubled.stats.cache_hits) == len(sys.argv) - 1, doubled.stats
"""
BOARDS = """
import sys
import numpy as np
from workloads.go.board import Rules, boards
for size in map(int, sys.argv[1:]):
    board = boards(Rules(size, size))
    board.step([size + 1])
    assert np.flatnonzero(board.stones[0]).tolist() == [size + 1], (size, board.stones[0])
    assert board.plies.tolist() == [1] and board.to_play.tolist() == [-1], size
"""
KINDS = ("int16", "int32", "int64", "float32", "float64", "complex64", "uint16", "uint64")


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Runs code in a process of its own, with the same compiled code kept for all."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), root])}
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "compiled")

    def run(code: str, *words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, words)]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    return run


def test_processes_that_compile_for_different_types_at_once_do_not_mix_them_up(
    python: Callable[..., subprocess.Popen[str]],
) -> None:
    """numba's own cache fails here: two of them choose the same name for what they compiled."""
    many = [python(COMPILE, kind, len(KINDS)) for kind in KINDS]
    for one in many:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said
    check = python(CHECK, *KINDS)
    _, said = check.communicate(timeout=120)
    assert check.returncode == 0, said


def test_code_for_boards_of_other_processes_is_told_apart(
    python: Callable[..., subprocess.Popen[str]],
) -> None:
    """numba's own names fail here: each process calls the kind of record that it meets first the same."""
    for sizes in ((5,), (9,), (5, 9), (9, 5)):
        one = python(BOARDS, *sizes)
        _, said = one.communicate(timeout=240)
        assert one.returncode == 0, f"{sizes}: {said}"
