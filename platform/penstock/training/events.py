"""What a run says while it works, through a file: rank 0 and the controller write, the driver follows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from penstock.store import explained

BLOCK = 16 * 1024
"""Bytes of a log's end that are looked at first."""

OnEvent = Callable[[dict[str, Any]], None]


class EventLog:
    """events.jsonl: append-only, for progress only. Nothing is read from it that a result depends on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: Mapping[str, Any]) -> None:
        """Several processes may: a line is one write, so lines do not mix."""
        spent = {"time": time.time(), "cpu_s": time.process_time()}  # what `penstock bench train` reads
        line = json.dumps({**event, **spent}).encode() + b"\n"
        with explained(self.path), self.path.open("a+b", buffering=0) as file:
            if end := file.seek(0, os.SEEK_END):
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line  # a writer was killed in the middle of its own
            file.write(line)

    def last_with(self, key: str) -> dict[str, Any] | None:
        """The newest event that holds `key`, or None. Reads the log from its end, and no further than needed:
        `penstock runs` asks this of every run."""
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
        """The whole lines from byte `offset` on, and where the next call goes on."""
        if not self.path.exists():
            return [], offset
        with self.path.open("rb") as file:
            file.seek(offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        return list(_parse(whole)), offset + len(whole)

    def end(self) -> int:
        """Where events yet to come will begin."""
        return self.path.stat().st_size if self.path.exists() else 0


def _parse(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a writer was killed in the middle of it
        if isinstance(event, dict):
            yield event
