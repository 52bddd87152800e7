"""A command of penstock that works on a cluster while a test does things to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.training.events import EventLog
from tests.command import command, environment


class Driven:
    """`penstock WORDS… --json` on the cluster at `address`, in a process of its own."""

    def __init__(self, store: Path, address: str, *words: str | Path, name: str = "") -> None:
        self.store, self.name = store, name
        self._files = {kind: store / f"{name or words[0]}.{kind}" for kind in ("out", "err")}
        store.mkdir(parents=True, exist_ok=True)
        with self._files["out"].open("wb") as out, self._files["err"].open("wb") as err:
            self.process = subprocess.Popen(
                command(*words, "--json", *(["--name", name] if name else [])),
                env=environment(store, env={"RAY_ADDRESS": address}),
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def run(self) -> Path:
        return self.store / "runs" / self.name

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        told, _ = EventLog(self.run / "events.jsonl").since(0)
        return [event for event in told if kind in (None, event["event"])]

    def attempts(self) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads((self.run / "attempts.json").read_bytes())
            return found
        except FileNotFoundError:
            return []

    def wait(self, what: str, until: Callable[[], object], timeout_s: float = 180.0) -> None:
        """Until something is so; fails when the command ends before, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not until():
            assert self.process.poll() is None, f"it ended before {what}: {self._tail()}"
            assert time.monotonic() < deadline, f"no {what} within {timeout_s:.0f} s: {self._tail()}"
            time.sleep(0.05)

    def result(self, timeout_s: float = 300.0) -> dict[str, Any]:
        """What it printed at its end."""
        assert self.process.wait(timeout_s) == 0, self._tail()
        found: dict[str, Any] = json.loads(self._files["out"].read_text().splitlines()[-1])
        return found

    def printed(self) -> list[dict[str, Any]]:
        """Its events, as they came to whoever gave the command; with --json there is nothing else."""
        return [json.loads(line) for line in self._files["out"].read_text().splitlines()]

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _tail(self) -> str:
        return "\n".join(
            line[:300]
            for line in "".join(
                path.read_text(errors="replace") for path in self._files.values()
            ).splitlines()[-8:]
        )
