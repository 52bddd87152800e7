"""The command `penstock` as a person runs it: another process, its exit code and what it printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of stdout."""
        assert self.code == 0, self.err
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found

    @property
    def error(self) -> str:
        """The one line of a user's error."""
        assert self.code == 2, (self.code, self.err)
        assert "Traceback" not in self.err
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def penstock(
    *words: str | Path,
    store: Path | None = None,
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 300,
) -> Finished:
    """Runs `penstock words…`. `store`: PENSTOCK_STORE; `path`: a folder of installed packages, put first."""
    done = subprocess.run(
        command(*words),
        env=environment(store, path, env),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def command(*words: str | Path) -> list[str]:
    """What to hand to subprocess."""
    return [sys.executable, "-c", "from penstock.cli import main; main()", *map(str, words)]


def environment(
    store: Path | None = None, path: Path | None = None, env: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of such a process."""
    made = {**os.environ, **(env or {})}
    if store is not None:
        made["PENSTOCK_STORE"] = str(store)
    if path is not None:
        made["PYTHONPATH"] = os.pathsep.join([str(path), made.get("PYTHONPATH", "")])
    return made
