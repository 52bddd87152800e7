"""TensorBoard: one file of events for a run, appended to, and cut back to what is known to be whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from penstock.store import explained
from penstock.tracking.points import Point, params_of, tags_of
from penstock.training.run import Run

FILE = "events.out.tfevents.penstock"


class TensorBoard:
    """Values are scalars (float32, as TensorBoard keeps them), settings are hparams, the end is a text."""

    def __init__(self, run: Run, place: str) -> None:
        """`place`: a folder that many runs share, each with a folder of its own; "": the run's own."""
        shared = Path(place).absolute() / f"{run.name}.{run.identity[:6]}" if place else None
        self.run, self.folder = run, shared or run.path / "tensorboard"
        self._file: BinaryIO | None = None

    def begin(self, state: dict[str, Any]) -> dict[str, Any]:
        path = self.folder / FILE
        with explained(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            if not 0 < state.get("length", 0) <= path.stat().st_size:
                state = {}
            self._file.truncate(state.get("length", 0))
        if not state:
            self._head()
        return state

    def _head(self) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        born = (self.run.path / "run.json").stat().st_mtime
        self._append([Event(wall_time=born, file_version="brain.Event:2")])
        params = hparams_pb({**params_of(self.run), **tags_of(self.run)}, self.run.identity, born)
        self._append([Event(wall_time=born, summary=params)])

    def write(self, points: Sequence[Point]) -> dict[str, Any]:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        return self._append(
            Event(
                wall_time=point.time,
                step=point.step,
                summary=Summary(
                    value=[Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
                ),
            )
            for point in points
        )

    def finish(self, status: str, end: Point | None) -> dict[str, Any]:
        if end is None:
            return self._append([])
        self.write([end])
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        lines = ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in tags_of(self.run).items())]
        text = Summary.Value(
            tag="published",
            metadata=create_summary_metadata("published", ""),
            tensor=TensorProto(dtype=DT_STRING, string_val=["\n".join(lines).encode()]),
        )
        return self._append([Event(wall_time=end.time, step=end.step, summary=Summary(value=[text]))])

    def _append(self, events: Any) -> dict[str, Any]:
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._file is not None
        with explained(self.folder / FILE):
            records = RecordWriter(self._file)
            for event in events:
                records.write(event.SerializeToString())
            self._file.flush()
            os.fsync(self._file.fileno())
            return {"length": self._file.tell()}

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what it could not write was said already
                file.close()
