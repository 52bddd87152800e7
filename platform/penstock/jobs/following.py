"""A job's log, followed to its end over connections that break: every line once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from penstock.errors import PenstockError
from penstock.jobs.client import Job, Unreachable

PATIENCE_S = 300.0
PENDING_S = 10.0
"""How long a job may wait for its place before a word is said about it."""
_LONGEST_PAUSE_S = 5.0


class Server(Protocol):
    """What of a Dashboard is needed here."""

    def tail(self, job: str) -> Iterator[str]: ...
    def log(self, job: str) -> str: ...
    def find(self, job: str) -> Job: ...


def follow(
    server: Server,
    job: str,
    say: Callable[[str], None] = lambda line: None,
    patience_s: float = PATIENCE_S,
    pause_s: float = 0.5,
    pending_s: float = PENDING_S,
) -> Iterator[str]:
    """The log of `job` as it grows, in pieces, until the job is over and all of its log has been given.

    Each connection tells the log from its start, so what has been given already is left out by counting
    characters. `say` hears why a job has not begun after `pending_s`, and that nobody answers any more; the
    first pause between two attempts is `pause_s`. Unreachable: nobody has answered for `patience_s`.
    PenstockError: no such job, the token.
    """
    given, said, pause = 0, "", pause_s
    asked = lost = time.monotonic()
    failures = 0  # since somebody answered
    while True:
        try:
            # a connection ends when the job does, and also when the server's own agent is lost
            found = server.find(job)
            if found.over:
                if rest := server.log(job)[given:]:
                    yield rest
                return
            failures = seen = 0
            if found.status == "PENDING":  # its log says nothing, and would not end
                if time.monotonic() - asked >= pending_s and found.message != said:
                    said = found.message
                    place = f"; its command reserves {found.reserved}" if found.reserved else ""
                    say(f"job {job} is pending: {said.rstrip('.')}{place}; penstock jobs stop {job} gives up")
                time.sleep(pause_s)
                continue
            for text in server.tail(job):
                pause = pause_s
                seen += len(text)
                if seen > given:
                    yield text[given - seen :]
                    given = seen
        except Unreachable as error:
            failures, now = failures + 1, time.monotonic()
            if failures == 1:  # one connection broke; whether all do, the next one tells
                lost = now
            elif failures == 2:
                say(f"the connection to job {job} is lost; it is tried again for up to {patience_s:.0f} s")
            if now - lost > patience_s:
                raise Unreachable(
                    f"{error}; the job may well go on: penstock jobs logs {job} --follow"
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def ending(server: Server, job: str, wait_s: float, pending_s: float = math.inf) -> Job:
    """The job once it is over, as the cluster describes it, or if it is still pending after `pending_s`;
    PenstockError after `wait_s`."""
    began = time.monotonic()
    while not (found := server.find(job)).over:
        waited_s = time.monotonic() - began
        if found.status == "PENDING" and waited_s >= pending_s:
            break
        if waited_s > wait_s:
            raise PenstockError(f"job {job} is still {found.status} after {wait_s:.0f} s; penstock jobs list")
        time.sleep(0.5)
    return found
