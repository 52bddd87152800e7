"""A `penstock train` command on real Ray workers, and SIGKILLs for parts of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from penstock.store import Store
from penstock.training import checkpoint
from penstock.training.run import Run

Part = Literal["worker", "controller", "driver", "runner", "learner"]
TITLES = {
    "worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "runner": "ray::SelfPlayRunner",
    "learner": "ray::_WrappedExecutable",  # RLlib's name for a remote learner
}
POLL_S = 0.01


@dataclass
class Kill:
    """What was killed, the newest committed checkpoint then, and how many attempts had begun."""

    part: Part
    newest: int
    attempts: int


@dataclass
class Victim:
    """A run with two workers; the command is given again when its driver is killed."""

    store: Store
    name: str
    words: Sequence[str]
    workload: str = "toy"
    kills: list[Kill] = field(default_factory=list)
    newest_before: dict[int, int] = field(default_factory=dict)
    """Attempts begun so far -> the newest checkpoint committed before the next one began."""

    def __post_init__(self) -> None:
        self._out = self.store.root / "driver.out"
        self._descendants: set[psutil.Process] = set()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._watch_run, daemon=True)
        self._start()
        self._watch.start()

    @property
    def path(self) -> Path:
        return self.store.runs / self.name

    def attempts(self) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads((self.path / "attempts.json").read_bytes())
            return found
        except FileNotFoundError:
            return []

    def newest(self) -> int:
        return max(checkpoint.steps(self.path / "checkpoints"), default=0)

    def wait(self, what: str, until: Callable[[], bool], timeout_s: float = 120.0) -> None:
        """Until something is so; fails when the driver ends before, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not until():
            assert self.driver.poll() is None, f"the run ended before {what}: {self._tail()}"
            assert time.monotonic() < deadline, f"no {what} within {timeout_s:.0f} s: {self._tail()}"
            time.sleep(POLL_S)

    def kill(self, part: Part, choose: Callable[[list[psutil.Process]], psutil.Process]) -> None:
        """SIGKILL a process of that part once there is one; a killed driver's command is given again."""
        if part == "driver":
            self._remember()
            self.kills.append(Kill(part, self.newest(), len(self.attempts())))
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
            self._start()
            return
        while True:
            self.wait(f"a {part} to kill", lambda: bool(self._processes(part)))
            process = choose(self._processes(part))
            try:
                kill = Kill(part, self.newest(), len(self.attempts()))
                process.kill()
                self.kills.append(kill)
                return
            except psutil.NoSuchProcess:
                continue  # it ended by itself a moment ago

    def result(self, timeout_s: float = 300.0) -> dict[str, Any]:
        """What the command printed at its end."""
        try:
            assert self.driver.wait(timeout_s) == 0, self._tail()
        finally:
            self.close()
        found: dict[str, Any] = json.loads(self._out.read_text().splitlines()[-1])
        return found

    def close(self) -> None:
        """End every process this test has started, by its id."""
        self._done.set()
        self._watch.join()
        if self.driver.poll() is None:
            self._remember()
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        for process in self._descendants:
            if process.is_running():  # compares the time of creation too
                process.kill()

    def _start(self) -> None:
        command = [str(Path(sys.executable).parent / "penstock"), "train", self.workload, "--json"]
        command += ["--store", str(self.store.root), "--name", self.name, "--workers", "2", "--cpus", "4"]
        with self._out.open("w") as out:
            self.driver = subprocess.Popen(
                [*command, *self.words],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.store.root,
            )

    def _processes(self, part: Part) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.driver.pid).children(recursive=True):
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith(TITLES[part]):
                    found.append(process)
            except psutil.Error:
                continue  # it ended while we looked
        return sorted(found, key=lambda process: process.pid)

    def _remember(self) -> None:
        self._descendants.update(psutil.Process(self.driver.pid).children(recursive=True))

    def _watch_run(self) -> None:
        while not self._done.wait(POLL_S):
            before = len(self.attempts())
            newest = self.newest()
            if len(self.attempts()) == before:
                self.newest_before[before] = newest

    def _tail(self) -> str:
        return "\n".join(line[:300] for line in self._out.read_text().splitlines()[-5:])


BARE = """
import sys
from pathlib import Path
import torch.distributed as dist
from penstock.training.run import Run
from penstock.training.work import work
from penstock.training.world import World

path, meeting, rank = sys.argv[1:]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=2)
work(Run.at(Path(path)), World.distributed("cpu", "exact"), lambda event: None)
dist.destroy_process_group()
"""


class Undisturbed:
    """The same training in two bare processes, without Ray and without a kill."""

    def __init__(self, victim: Run, folder: Path) -> None:
        store = Store.open(folder)
        store.datasets.rmdir()
        store.datasets.symlink_to(victim.dataset_path.parent)
        self.run = Run.create(store, "undisturbed", victim.spec)
        command = [sys.executable, "-c", BARE, str(self.run.path), str(folder / "meeting")]
        self._workers = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]

    def wait(self, timeout_s: float = 900.0) -> Run:
        """The run, when it is done."""
        assert [worker.wait(timeout_s) for worker in self._workers] == [0, 0]
        return self.run

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
