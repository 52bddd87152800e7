"""What a run says while it works, in a file or in a bucket: rank 0 and the controller write, the driver
follows."""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock.errors import StoreError
from penstock.store import append_object, explained, in_bucket, newest_objects, read_objects

BLOCK = 16 * 1024
"""Bytes of a log's end that are looked at first."""

LOOKED_AT = 8
"""Objects of a log in a bucket in which the newest event of a kind is looked for."""
OnEvent = Callable[[dict[str, Any]], None]


class EventLog:
    """events.jsonl: append-only, for progress only. Nothing is read from it that a result depends on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sender = Sender(path) if in_bucket(path) else None
        self.pace_s = 1.0 if self._sender else 0.2
        """How often to look for more."""

    def append(self, event: Mapping[str, Any]) -> None:
        """Several processes may: a line is one write, so lines do not mix."""
        spent = {"time": time.time(), "cpu_s": time.process_time()}  # what `penstock bench train` reads
        line = json.dumps({**event, **spent}).encode() + b"\n"
        if self._sender:
            self._sender.add(line)
            return
        with explained(self.path), self.path.open("a+b", buffering=0) as file:
            if end := file.seek(0, os.SEEK_END):
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line  # a writer was killed in the middle of its own
            file.write(line)

    def close(self) -> None:
        """Everything so far can be read by others."""
        if self._sender:
            self._sender.close()

    def last_with(self, key: str) -> dict[str, Any] | None:
        """The newest event that holds `key`, or None. Reads the log from its end, and no further than needed:
        `penstock runs` asks this of every run."""
        if self._sender:
            told = list(_parse(b"".join(reversed(newest_objects(self.path, LOOKED_AT)))))
            return next((event for event in reversed(told) if key in event), None)
        end, size = self.end(), BLOCK
        while end:
            start = max(0, end - size)
            told, _ = self.since(start)  # what is left of a line that was cut does not parse
            found = next((event for event in reversed(told) if key in event), None)
            if found is not None or start == 0:
                return found
            size *= 4
        return None

    def since(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """What was said from `offset` on, and where the next call goes on: bytes of a file, or objects."""
        if self._sender:
            records = read_objects(self.path, offset)
            return list(_parse(b"".join(records))), offset + len(records)
        if not self.path.exists():
            return [], offset
        with self.path.open("rb") as file:
            file.seek(offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        return list(_parse(whole)), offset + len(whole)

    def end(self) -> int:
        """Where events yet to come will begin."""
        if self._sender:
            return len(read_objects(self.path))
        return self.path.stat().st_size if self.path.exists() else 0


class Sender:
    """Takes lines and appends them to a log in a bucket from a thread of its own: at most one object a
    second, and fewer the longer it goes on. What cannot be sent is lost, as it only tells of progress."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[bytes] = []
        self._news = threading.Condition()
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, line: bytes) -> None:
        with self._news:
            self._lines.append(line)
            if self._thread is None or not self._thread.is_alive():
                self._ends.clear()
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._news.notify()

    def close(self) -> None:
        """Until all is sent. What is added later is sent, too."""
        atexit.unregister(self.close)
        with self._news:
            thread = self._thread
            self._ends.set()
            self._news.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while True:
            with self._news:
                self._news.wait_for(lambda: self._lines or self._ends.is_set())
                lines, self._lines = self._lines, []
                if not lines:
                    self._thread = None
                    return
            with suppress(StoreError):
                append_object(self.path, b"".join(lines))
            self._ends.wait(min(10.0, max(1.0, (time.monotonic() - began) / 100)))


def _parse(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a writer was killed in the middle of it
        if isinstance(event, dict):
            yield event
