"""Follows runs: a thread for each tracker, which reads the run's folder and nothing else.

What a tracker holds is remembered in the run's folder (`tracking/`), so that a run that was killed goes on in
the same place, each step once. A tracker that fails is told once, and tried again as the run goes on.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from penstock.errors import StoreError
from penstock.store import current, lock, write_atomic
from penstock.tracking import Target, without_secrets
from penstock.tracking.points import Point, RunLog, end_of
from penstock.training.events import OnEvent
from penstock.training.run import Run

EVERY_S = 1.0
"""How often a tracker looks for a new checkpoint."""
PATIENCE_S = 60.0
"""The longest wait after failures."""
CLOSE_S = 20.0
"""How long a run that has ended waits for each of its trackers."""

State = dict[str, Any]


class Tracker(Protocol):
    """Somewhere points are shown. Any exception means: not now."""

    def begin(self, state: State) -> State:
        """Open or make what shows the run. `state`: what the last `write` gave; the answer: the same, or {}
        where what it speaks of is gone, and all has to be written again."""

    def write(self, points: Sequence[Point]) -> State:
        """Keep `points`, safe when it returns; after a kill they may come again. Gives what `begin` needs."""

    def finish(self, status: str, end: Point | None) -> State:
        """The process that trains leaves: FINISHED with the points of the end, FAILED or KILLED."""

    def close(self) -> None:
        """Let go of files and connections; never raises."""


@contextmanager
def following(run: Run, asked: Sequence[Target], tell: OnEvent) -> Iterator[OnEvent]:
    """While the block runs, `run` is shown by every tracker `asked` for. Yields what takes events in place of
    `tell`: it passes on what trackers have to say, between two events of the run's own."""
    if not asked:
        yield tell
        return
    with ExitStack() as held:
        try:
            held.enter_context(lock(run.path / "tracking" / ".lock", blocking=False))
        except StoreError as error:  # held by another process, or the disk is full
            tell({"event": "warning", "message": f"nothing is tracked: {error}"})
            asked = ()
        followers = [Follower(run, target) for target in asked]

        def listen(event: dict[str, Any]) -> None:
            tell(event)
            for each in followers:
                each.pass_on(tell)

        status = "FAILED"
        try:
            yield listen
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            for each in followers:
                each.leave(status)
            for each in followers:
                each.join(CLOSE_S)
                each.pass_on(tell)
        places = [each.place for each in followers if each.done]
        if places:
            tell({"event": "note", "text": f"tracked: {'; '.join(places)}"})


class Follower:
    """One tracker of one run."""

    def __init__(self, run: Run, target: Target) -> None:
        self.run, self.target = run, target
        self.tracker, self.place = build(run, target)
        name = hashlib.sha256(self.place.encode()).hexdigest()[:8]
        self._file = run.path / "tracking" / f"{target.kind}-{name}.json"
        self._log = RunLog(run)
        self._open = self._warned = self.done = False
        self._state: State = {}
        self._said: list[str] = []
        self._leaving = threading.Event()
        self._status = ""
        self._thread = threading.Thread(target=self._follow, name=f"track-{target.kind}", daemon=True)
        self._thread.start()

    def pass_on(self, tell: OnEvent) -> None:
        """Tell what there is to say; called by the thread that owns `tell`."""
        while self._said:
            tell({"event": "warning", "message": self._said.pop(0)})

    def leave(self, status: str) -> None:
        self._status = status
        self._leaving.set()

    def join(self, seconds: float) -> None:
        """Wait for the last points. What is left after that time is written by the next call."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._warn(TimeoutError(f"no answer within {seconds:.0f} s"))

    # ---------------------------------------------------------------- in the thread

    def _follow(self) -> None:
        wait = EVERY_S
        while not self._leaving.is_set():
            wait = EVERY_S if self._try(self._catch_up) else min(2 * wait, PATIENCE_S)
            self._leaving.wait(wait)
        self.done = self._try(self._end)
        self.tracker.close()

    def _try(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:
            # begin() again next time: what was half written is then cut off
            self.tracker.close()
            self._open = False
            self._warn(error)
            return False
        return True

    def _catch_up(self) -> None:
        if not self._open:
            state = self._saved()
            if state.get("ended"):
                return
            self._state = self.tracker.begin(state)
            self._open = True
            if not self._state:
                self._save({"step": 0, **self.tracker.write([])})
        points, step = self._log.since(self._state["step"])
        if points:
            self._save({"step": step, **self.tracker.write(points)})

    def _end(self) -> None:
        self._catch_up()
        if self._open:
            end = end_of(self.run)
            left = self.tracker.finish(self._status, end)
            self._save({"step": self._state["step"], "ended": end is not None, **left})

    def _saved(self) -> State:
        try:
            state: State = json.loads(current(self._file))
        except (FileNotFoundError, ValueError):
            return {}
        return state

    def _save(self, state: State) -> None:
        write_atomic(self._file, json.dumps(state).encode())
        self._state = state

    def _warn(self, error: BaseException) -> None:
        if self._warned:
            return
        self._warned = True
        lines = str(error).strip().splitlines() or [""]
        why = without_secrets(f"{type(error).__name__}: {lines[0]}")[:200]
        self._said.append(
            f"{self.target.kind} ({self.place}): {why}; training goes on, and the same command "
            "writes later what is missing"
        )


def build(run: Run, target: Target) -> tuple[Tracker, str]:
    """The tracker, and its place as it may be shown."""
    if target.kind == "tensorboard":
        from penstock.tracking.tensorboard import TensorBoard

        board = TensorBoard(run, target.place)
        return board, f"tensorboard --logdir {board.folder}"
    from penstock.tracking.mlflow import MLflow

    flow = MLflow(run, target.place)
    return flow, f"mlflow {without_secrets(flow.uri)}"
