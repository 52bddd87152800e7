"""A file of records that only grows: what a search has learned so far."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.errors import StoreError
from penstock.store import append_object, explained, in_bucket, read_objects


class Journal:
    """One JSON object a line. One process writes at a time (whoever holds the lease of what it belongs to);
    any may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; it is on the disk when this returns. What a killed writer left of a line is cut
        first. StoreError when the disk is full, with the records before untouched."""
        if in_bucket(self.path):
            append_object(self.path, json.dumps(record, allow_nan=False).encode())
            return
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with explained(self.path):
            new = not self.path.exists()
            with self.path.open("ab") as file:
                whole = self._whole()
                file.truncate(whole)
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), whole)
                    raise
            if new:
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)

    def read(self) -> list[dict[str, Any]]:
        """Every whole record, oldest first; StoreError when one cannot be read."""
        if in_bucket(self.path):
            lines = read_objects(self.path)
        elif self.path.exists():
            lines = self.path.read_bytes()[: self._whole()].splitlines()
        else:
            return []
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise StoreError(f"{self.path} is damaged; use another --name") from None

    def _whole(self) -> int:
        """The length of the whole lines, bytes."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            # a torn line is at most one record long
            tail, end = b"", size
            while end:
                start = max(0, end - 65_536)
                file.seek(start)
                tail = file.read(end - start)
                if b"\n" in tail:
                    return start + tail.rindex(b"\n") + 1
                end = start
        return 0
