"""A `penstock tune` command on a real Ray, and SIGKILLs for its driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from penstock.journal import Journal
from penstock.store import Store
from penstock.training.run import Run, names
from tests.command import command, environment

POLL_S = 0.01


@dataclass
class Kill:
    """What was recorded when the driver was killed: run -> (its last step, its attempts, whether it was at
    its end)."""

    stood: dict[str, tuple[int, int, bool]]


@dataclass
class Searching:
    """A search whose driver can be killed; the same command goes on with it."""

    store: Store
    name: str
    words: Sequence[str]
    kills: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._out = self.store.root / f"{self.name}.out"
        self._journal = Journal(self.store.searches / self.name / "ledger.jsonl")
        self._descendants: set[psutil.Process] = set()
        self.start()

    def start(self) -> None:
        words = [*self.words, "--json", "--store", str(self.store.root), "--name", self.name]
        with self._out.open("w") as out:
            self.driver = subprocess.Popen(
                command("tune", *words),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.store.root,
                env=environment(),
            )

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self._journal.read() if record["record"] == kind]

    def wait(self, kind: str, count: int) -> None:
        """Until there are so many records of that kind; fails when the driver ends before."""
        self.until(f"{count} {kind}", lambda: len(self.records(kind)) >= count)

    def until(self, what: str, so: Callable[[], bool], timeout_s: float = 240.0) -> None:
        """Until something is so; fails when the driver ends before."""
        deadline = time.monotonic() + timeout_s
        while not so():
            assert self.driver.poll() is None, f"the search ended before {what}: {self.tail()}"
            assert time.monotonic() < deadline, f"no {what} within {timeout_s:.0f} s: {self.tail()}"
            time.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL the driver with its process group; its workers find out by themselves."""
        self._remember()
        os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()
        runs: dict[int, str] = {}
        stood = {}
        for record in self._journal.read():
            if record["record"] in ("trial", "forked"):
                runs[record["trial"]] = record["run"]
            elif record["record"] == "reached":
                name = runs[record["trial"]]
                attempts = len(Run.open(self.store, name).attempts)
                stood[name] = (record["step"], attempts, record["finished"])
        self.kills.append(Kill(stood))

    def training(self) -> list[str]:
        """Its runs that have made steps and have some to make."""
        mine = [name for name in names(self.store) if name.startswith(self.name)]
        runs = [Run.open(self.store, name) for name in mine]
        return [run.name for run in runs if run.outcome() is None and len(run.metrics.loss_curve())]

    def kill_process(self, title: str, timeout_s: float = 120.0) -> None:
        """SIGKILL a process of that title, as soon as there is one."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for process in psutil.Process(self.driver.pid).children(recursive=True):
                try:
                    if process.cmdline()[:1] and process.cmdline()[0].startswith(title):
                        process.kill()
                        return
                except psutil.Error:
                    continue  # it ended while we looked
            time.sleep(POLL_S)
        raise AssertionError(f"no {title} to kill: {self.tail()}")

    def result(self, timeout_s: float = 400.0) -> dict[str, Any]:
        """What the command printed at its end."""
        assert self.driver.wait(timeout_s) == 0, self.tail()
        found: dict[str, Any] = json.loads(self._out.read_text().splitlines()[-1])
        return found

    def close(self) -> None:
        """End every process this test has started, by its id."""
        if self.driver.poll() is None:
            self._remember()
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        for process in self._descendants:
            if process.is_running():  # compares the time of creation too
                process.kill()

    def tail(self) -> str:
        return "\n".join(line[:300] for line in self._out.read_text().splitlines()[-5:])

    def _remember(self) -> None:
        self._descendants.update(psutil.Process(self.driver.pid).children(recursive=True))

    def trained_twice(self) -> list[str]:
        """Runs that went back behind what was recorded of them when a driver was killed, by their own log of
        attempts. Attempts that began before the kill are those of its orphans."""
        faults = []
        for kill in self.kills:
            for name, (step, attempts, finished) in kill.stood.items():
                later = Run.open(self.store, name).attempts[attempts:]
                if any(attempt["from_step"] < step for attempt in later) or (finished and later):
                    faults.append(f"{name} at {step}: {later}")
        return faults

    def steps(self) -> int:
        """Steps that are in the logs of all its runs, those of a fork's source left out."""
        total = 0
        for name in names(self.store):
            run = Run.open(self.store, name)
            if run.spec.search == self.name and run.attempts:
                total += len(run.metrics.loss_curve()) - run.attempts[0]["from_step"]
        return total


def published(store: Store, model: str) -> list[Path]:
    """The versions of a model."""
    return sorted(path.parent for path in (store.models / model).glob("*/card.json"))
