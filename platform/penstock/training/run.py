"""A run: the folder that holds what was asked for, what was done, and who may write.

runs/<name>/run.json         what was asked for (RunSpec) and the run's identity
            metrics.jsonl    one line a step, one a validation; append-only, cut back on resume
            attempts.json    where each attempt started
            checkpoints/     see checkpoint.py
            outcome/         the weights to publish, once training is done
            result.json      what `penstock train` printed, once all is done
            .driver.lock     held by the process that runs the command
            .lock            the fence: held by the one process that may commit (rank 0)
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import RunError, StoreError, nearest
from penstock.store import (
    Busy,
    Store,
    current,
    discard_folder,
    fetched,
    in_bucket,
    listed,
    lock,
    lock_held,
    publish_folder,
    sweep,
    write_atomic,
)
from penstock.store import address as address_of
from penstock.training import checkpoint
from penstock.training.metrics import MetricsLog
from penstock.workload import NAME

if TYPE_CHECKING:
    import torch

FORMAT = 1


@dataclass(frozen=True)
class RunSpec:
    """What was asked for: all that decides the result, and the means (workers, threads, device)."""

    workload: str
    reference: str  # the entry point's value, so that workers import what the driver found
    config: Mapping[str, Any]
    dataset: str  # id, a folder of the store's datasets/
    seed: int = 0
    workers: int = 1
    max_workers: int = 0  # elastic up to this many; 0 = exactly `workers`
    threads: int = 1  # of each worker
    device: str = "cpu"
    strategy: str = "exact"
    start_from: str | None = None  # name@version
    model: str = ""  # the name it is published under
    search: str = ""  # the search it is a trial of

    MEANS = ("workers", "max_workers")
    """What may differ when a run goes on: the number of workers does not change the result."""

    def differences(self, other: RunSpec) -> list[str]:
        """`setting (here, there)` for all that differs, means left out."""
        ours, theirs = flat(dataclasses.asdict(self)), flat(dataclasses.asdict(other))
        keys = dict.fromkeys([*ours, *theirs])
        return [
            f"{key.removeprefix('config.')} ({ours.get(key)!r}, now {theirs.get(key)!r})"
            for key in keys
            if key not in self.MEANS and ours.get(key) != theirs.get(key)
        ]


@dataclass(frozen=True)
class Run:
    """A run's folder. `identity` tells it from another run that had the same name before."""

    path: Path
    spec: RunSpec
    identity: str
    metrics: MetricsLog = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", MetricsLog(self.path / "metrics.jsonl"))

    @classmethod
    def create(cls, store: Store, name: str, spec: RunSpec) -> Run:
        """A new run, or the existing one of that name when it was asked for the same; RunError names the
        settings that differ."""
        if not NAME.fullmatch(name):
            raise RunError(f"run name {name!r}: write up to 64 of a-z 0-9 . _ - from a letter or digit on")
        facts = facts_of(spec)
        if name not in listed(store.runs):
            sweep(store.runs)
            try:
                with publish_folder(store.runs, name) as aside:
                    (aside / "run.json").write_text(json.dumps(facts, indent=1))
                return cls(store.runs / name, spec, facts["identity"])
            except FileExistsError:
                pass  # another process was first: it is the existing run now
        run = cls.open(store, name)
        different = run.spec.differences(spec)
        if different:
            raise RunError(
                f"run {name!r} exists with other settings: {', '.join(different)}; "
                "choose another --name, or --fresh to start it anew"
            )
        return run

    @classmethod
    def open(cls, store: Store, name: str) -> Run:
        """The run called `name`; RunError when there is none."""
        if not NAME.fullmatch(name) or name not in names(store):
            raise RunError(f"no run {name!r}{nearest(name, names(store))}")
        return cls.at(store.runs / name)

    @classmethod
    def at(cls, address: str | Path) -> Run:
        """The run at an `address`, as a worker finds it, on whichever machine."""
        place, path = str(address), Path(address)
        if "://" in place:
            base, runs, name = place.rsplit("/", 2)
            path = Store.open(base).root / runs / name
        try:
            facts = json.loads((fetched(path) / "run.json").read_bytes())
            return cls(path, RunSpec(**facts["spec"]), facts["identity"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"run {path.name!r}: run.json is damaged ({error}); use another --name") from None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def address(self) -> str:
        """By which other processes find it: `Run.at`."""
        return address_of(self.path.absolute())

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def dataset_path(self) -> Path:
        """The prepared data set, in the same store."""
        return self.path.parent.parent / "datasets" / self.spec.dataset

    # ------------------------------------------------------------------ who may do what

    @contextmanager
    def driver_lease(self) -> Iterator[None]:
        """Held by the process that runs the command; RunError when another one does already. The kernel
        drops it with the process, however that ends."""
        try:
            with lock(self.path / ".driver.lock", blocking=False):
                yield
        except Busy as busy:
            raise RunError(
                f"run {self.name!r} is running already (process {busy.pid}); wait, or choose another --name"
            ) from None

    def driver_alive(self) -> bool:
        """Whether the process that last took the lease is alive. For people: only the lease decides."""
        return lock_held(self.path / ".driver.lock")

    @contextmanager
    def writer_fence(self) -> Iterator[None]:
        """Held by rank 0 from before it looks for the newest checkpoint until it ends: who holds it is the
        only one that commits. Waits for the orphan of a dead driver, which lives about three seconds."""
        with lock(self.path / ".lock"):
            yield

    # ------------------------------------------------------------------ what was done

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Each start of training: {"attempt", "from_step", "workers"}, oldest first."""
        try:
            found: list[dict[str, Any]] = json.loads(current(self.path / "attempts.json"))
        except FileNotFoundError:
            return []
        return found

    def log_attempt(self, from_step: int, workers: int) -> None:
        """Remember that training starts at `from_step`; called under the fence."""
        before = self.attempts
        entry = {"attempt": len(before) + 1, "from_step": from_step, "workers": workers}
        write_atomic(self.path / "attempts.json", json.dumps([*before, entry]).encode())

    def newest_checkpoint(self, warn: Callable[[str], None]) -> checkpoint.Checkpoint | None:
        """Where to go on: the newest intact checkpoint; see checkpoint.newest."""
        return checkpoint.newest(self.checkpoints, warn)

    def validated(self) -> int:
        """How many validations the newest checkpoint holds: what a run that goes on will not do again."""
        found = self.newest_checkpoint(lambda _: None)
        return len(self.metrics.validations(found.metrics_bytes)) if found is not None else 0

    def save_outcome(self, weights: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Commit what training made: the weights to publish and JSON facts about them."""
        if self.outcome() is None:
            checkpoint.save(self.path / "outcome", 0, weights, dict(facts), 0)

    def outcome(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What training made, or None while it is not done (or when it is damaged: it is then made again)."""
        found = checkpoint.newest(self.path / "outcome", lambda _: None)
        return found.load() if found is not None else None

    def save_snapshot(self, step: int, png: bytes) -> None:
        """Keep a picture of what the weights did after `step`; a run that goes on draws the same again."""
        write_atomic(self.snapshots / f"{step:08d}.png", png)

    @property
    def snapshots(self) -> Path:
        return self.path / "snapshots"

    @property
    def result(self) -> dict[str, Any] | None:
        """What `penstock train` printed, once all is done."""
        path = self.path / "result.json"
        try:
            found: dict[str, Any] = json.loads(current(path))
            return found
        except FileNotFoundError:
            return None
        except ValueError:
            raise StoreError(f"{path} is damaged; delete it and run the same command again") from None

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_atomic(self.path / "result.json", json.dumps(result, indent=1).encode())


def names(store: Store) -> list[str]:
    """The runs in a store, sorted."""
    found = [name for name in listed(store.runs) if NAME.fullmatch(name)]
    if in_bucket(store.runs):
        return found
    return [name for name in found if (store.runs / name / "run.json").is_file()]


def remove(run: Run) -> None:
    """Forget a run; called under its lease. Its published versions stay."""
    discard_folder(run.path)


def facts_of(spec: RunSpec) -> dict[str, Any]:
    """What a new run's run.json holds."""
    return {"format": FORMAT, "identity": secrets.token_hex(8), "spec": dataclasses.asdict(spec)}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted name; tuples as lists."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found
