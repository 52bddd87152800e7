"""A run's metrics: one JSON line a step and one a validation, append-only, without gap or duplicate."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import StoreError
from penstock.store import explained, pull, push

if TYPE_CHECKING:
    import numpy as np


class MetricsLog:
    """metrics.jsonl. A checkpoint names the length that belongs to it; resuming cuts the file back to it.

    Lines are `{"step": s, "loss": x, "loss/<objective>": x}` and
    `{"step": s, "epoch": e, "validation": {…}}`; floats are written so that they read back bit for bit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write lines at the end; they are safe after `sync`."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        with explained(self.path), self.path.open("ab") as file:
            file.write(text.encode())

    def sync(self) -> int:
        """Everything so far reaches the disk, or the bucket; gives the file's length in bytes."""
        with explained(self.path), self.path.open("ab") as file:
            os.fsync(file.fileno())
            length = file.tell()
        push(self.path)
        return length

    def truncate(self, length: int) -> None:
        """Forget all after `length` bytes: steps beyond the checkpoint that training goes on from."""
        if length:
            pull(self.path)  # the attempt before may have run on another machine
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < length:
            raise StoreError(
                f"{self.path} holds {size} bytes, its checkpoint says {length}; --fresh starts the run anew"
            )
        with explained(self.path), self.path.open("ab") as file:
            file.truncate(length)
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every whole line; the last one may be under way."""
        yield from self.until()

    def until(self, length: int | None = None) -> Iterator[dict[str, Any]]:
        """Every whole line of the first `length` bytes; None: of all."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if length is not None and size < length:
            pull(self.path)  # it was written on another machine
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and (length is None or file.tell() <= length):
                    yield json.loads(line)

    def loss_curve(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The loss of every step, float64 [steps]; StoreError when steps are missing or twice there."""
        import numpy as np

        steps, losses = [], []
        for line in self:
            if "loss" in line:
                steps.append(line["step"])
                losses.append(line["loss"])
        first = steps[0] if steps else 0
        if steps != list(range(first, first + len(steps))):
            raise StoreError(f"{self.path}: steps are missing or repeated; --fresh starts the run anew")
        return np.array(losses, dtype=np.float64)

    def validations(self, length: int | None = None) -> list[dict[str, Any]]:
        """The lines about validations, oldest first; `length`: only those of the first bytes."""
        return [line for line in self.until(length) if "validation" in line]
