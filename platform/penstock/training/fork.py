"""A run that goes on from where another one is, with other settings."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress

from penstock.errors import RunError
from penstock.store import ASIDE, Store, current, fetched, gathered, in_bucket, publish_folder, write_atomic
from penstock.training import checkpoint
from penstock.training.checkpoint import Checkpoint
from penstock.training.metrics import MetricsLog
from penstock.training.run import Run, RunSpec, facts_of, names

PLAIN = ("selves", "snapshots")
"""Folders of single files that training reads again; `selves` are those of what plays."""
DONE = "forked.json"


def fork(source: Run, store: Store, name: str, spec: RunSpec) -> Run:
    """A run called `name` that goes on from the newest checkpoint of `source` with the settings of `spec`;
    the one that is there already when it was forked before. RunError when there is no checkpoint."""
    if name in names(store) and (not in_bucket(store.runs) or _done(store, name)):
        return Run.create(store, name, spec)
    found = source.newest_checkpoint(lambda _: None)
    if found is None:
        raise RunError(f"run {source.name!r} has no checkpoint to go on from as {name!r}")
    facts = {"forked_from": source.name, "forked_at": found.step}
    if in_bucket(store.runs):
        made = Run.create(store, name, spec)
        _copy(source, made, found)
        write_atomic(made.path / DONE, json.dumps(facts).encode())
        return made
    with suppress(FileExistsError), publish_folder(store.runs, name) as aside:
        for folder in ("checkpoints", *PLAIN):
            if (source.path / folder).is_dir():
                shutil.copytree(source.path / folder, aside / folder, ignore=_unfinished)
        MetricsLog(aside / "metrics.jsonl").append(source.metrics.until(found.metrics_bytes))
        (aside / "run.json").write_text(json.dumps(facts_of(spec) | facts, indent=1))
    return Run.create(store, name, spec)


def _done(store: Store, name: str) -> bool:
    try:
        current(store.runs / name / DONE)
    except FileNotFoundError:
        return False
    return True


def _copy(source: Run, made: Run, found: Checkpoint) -> None:
    """In a bucket a checkpoint is committed by itself; a copy that was cut short is made again."""
    made.metrics.truncate(0)
    made.metrics.append(source.metrics.until(found.metrics_bytes))
    made.metrics.sync()
    for step in checkpoint.steps(source.checkpoints):
        if step <= found.step:
            folder = f"{step:08d}"
            with suppress(FileExistsError), publish_folder(made.checkpoints, folder) as aside:
                shutil.copytree(fetched(source.checkpoints / folder), aside, dirs_exist_ok=True)
    for plain in PLAIN:
        here = gathered(source.path / plain)
        for file in sorted(here.iterdir()) if here.is_dir() else ():
            if file.is_file() and not file.name.startswith("."):
                write_atomic(made.path / plain / file.name, file.read_bytes())


def _unfinished(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(ASIDE)]
