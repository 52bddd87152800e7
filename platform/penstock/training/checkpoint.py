"""Checkpoints: committed or absent, checked before use, without pickle.

A checkpoint is a folder `<step:08d>/` holding `tensors.safetensors`, `state.json` and a `manifest.json` with
the size and hash of both. It is written aside and renamed, so a kill at any moment leaves the older one or
the newer one, never a half. A damaged one is skipped with a warning and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from penstock.errors import Damaged
from penstock.store import (
    discard_folder,
    explained,
    fetched,
    listed,
    piece,
    publish_folder,
    sha256_file,
    sweep,
)

if TYPE_CHECKING:
    import torch

FORMAT = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"

Tensors = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint whose hashes were right when it was found."""

    path: Path
    step: int  # steps done
    metrics_bytes: int  # length of metrics.jsonl that belongs to it

    def at(self, folder: Path) -> Checkpoint:
        """The same one in the `folder` of this process, which may be on another machine than its finder."""
        return replace(self, path=fetched(folder / self.path.name))

    def load(self) -> tuple[dict[str, torch.Tensor], Any]:
        """Its tensors (on the CPU) and its JSON state, as they were given to `save`."""
        import safetensors.torch

        tensors = safetensors.torch.load_file(self.path / TENSORS)
        return tensors, json.loads((self.path / STATE).read_bytes())


def save(
    folder: Path,
    step: int,
    tensors: Tensors,
    state: Any,
    metrics_bytes: int,
    more: Callable[[Path], None] = lambda aside: None,
) -> Checkpoint:
    """Commit a checkpoint in `folder`; StoreError when the disk is full, with the older ones untouched.
    `more` writes what else belongs to it into the folder that it is given."""
    import safetensors.torch

    name = f"{step:08d}"
    blobs = {
        TENSORS: safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()}),
        STATE: json.dumps(state).encode(),
    }
    with explained(folder / name):
        discard_folder(folder / name)  # a resumed run saves again only where it found a damaged one
    with publish_folder(folder, name) as aside:
        for file, blob in blobs.items():
            (aside / file).write_bytes(blob)
        more(aside)
        facts = {
            "format": FORMAT,
            "step": step,
            "metrics_bytes": metrics_bytes,
            "files": {
                path.relative_to(aside).as_posix(): {
                    "bytes": path.stat().st_size,
                    "sha256": sha256_file(path),
                }
                for path in sorted(aside.rglob("*"))
                if path.is_file()
            },
        }
        (aside / MANIFEST).write_bytes(json.dumps({**facts, "sha256": _hash(facts)}).encode())
    return Checkpoint(folder / name, step, metrics_bytes)


def steps(folder: Path) -> list[int]:
    """The steps of the committed checkpoints, oldest first; nothing is verified."""
    return sorted(int(name) for name in listed(folder) if name.isdecimal())


def newest_length(folder: Path) -> tuple[int, int]:
    """The step of the newest committed checkpoint and the bytes of metrics that belong to it, (0, 0) without
    one; its manifest alone is looked at."""
    for step in reversed(steps(folder)):
        try:
            return step, int(json.loads(piece(folder / f"{step:08d}", MANIFEST))["metrics_bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, or replaced just now
    return 0, 0


def at(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of `step`, on this disk, verified; Damaged says what is wrong with it."""
    path = folder / f"{step:08d}"
    try:
        facts = json.loads((fetched(path) / MANIFEST).read_bytes())
        claimed = facts.pop("sha256")
        if facts["format"] != FORMAT or facts["step"] != step or claimed != _hash(facts):
            raise Damaged(f"checkpoint {path}: its manifest is damaged")
        for file, fact in facts["files"].items():
            if (path / file).stat().st_size != fact["bytes"] or sha256_file(path / file) != fact["sha256"]:
                raise Damaged(f"checkpoint {path}: {file} is damaged")
    except FileNotFoundError as error:
        raise Damaged(f"checkpoint {path}: {Path(error.filename).name} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(f"checkpoint {path}: its manifest is damaged") from None
    return Checkpoint(path, step, facts["metrics_bytes"])


def newest(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest intact checkpoint, or None; `warn` gets one line for each damaged one that is skipped."""
    for step in reversed(steps(folder)):
        try:
            return at(folder, step)
        except Damaged as error:
            warn(f"{error}; falling back to the one before it")
    return None


def retain(folder: Path, step: int, newest_kept: int, keep: Collection[int]) -> None:
    """Delete all but the `newest_kept` checkpoints up to `step` and those of the steps in `keep`.

    Those after `step` go too: the run fell back behind them, so they are damaged.
    """
    found = steps(folder)
    kept = [other for other in found if other <= step][-max(newest_kept, 1) :]
    for other in found:
        if other not in kept and other not in keep:
            discard_folder(folder / f"{other:08d}")


class AsyncSaver:
    """Saves checkpoints beside training; made by the one writer of a run, who holds its fence.

    The caller pays for the copy to the CPU; hashing, writing and fsync run in one thread. A save first waits
    for the one before it. What went wrong in the thread is raised by the next `save`, or by `close`.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self._under_way: Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        # its one thread runs from now on: Ctrl-C in the middle of a start leaves one that nobody can join
        self._writer.submit(int).result()
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)

    def save(
        self, step: int, tensors: Tensors, state: Any, metrics_bytes: int, keep: Collection[int] = ()
    ) -> None:
        """Snapshot now, commit soon. `keep`: steps whose checkpoints stay besides the newest (the best)."""
        import torch

        self.wait()
        # a copy of each tensor, so that training may go on changing them; contiguous, as safetensors demands
        snapshot = {
            key: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for key, tensor in tensors.items()
        }
        frozen = json.loads(json.dumps(state))
        kept = frozenset(keep)

        def commit() -> None:
            save(self.folder, step, snapshot, frozen, metrics_bytes)
            retain(self.folder, step, self.keep, kept)

        self._under_way = self._writer.submit(commit)

    def wait(self) -> None:
        """Until the save under way is committed; raises what it met."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def close(self) -> None:
        """The last save is committed, and there will be no other; raises what it met."""
        self._writer.shutdown()
        self.wait()

    def __enter__(self) -> AsyncSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.shutdown()  # the error on its way out matters more than one from the save


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
