"""A bucket and the local folder that stands for it: `Store.root` of a store at s3://….

| on the disk | in the bucket |
|---|---|
| `parent/name/`, a committed folder | its files, below `parent/.data/<name>~<attempt>/` |
| `parent/.committed/<name>` | its marker; on the disk, as it was when the folder was brought here |
| any other file | an object of the same name |

The marker is written last, on condition that there is none: it is the moment of commitment, and of any
number of writers one wins. It lists the files with their hashes. What comes to lie in a committed folder
later (a run's checkpoints) lies below the same `.data/<name>~<attempt>/`, so that it goes with it, and a
later folder of the same name never meets it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from penstock.errors import Damaged, StoreError
from penstock.store import lease, local, process
from penstock.store.objects import COMMITTED, DATA, Objects, known_attempt

SETTLED_S = 60.0
"""Age of what a dead writer of this machine left when it is swept: no request of it is under way any more."""
ABANDONED_S = 86_400.0
"""The same for a writer of another machine, of which nobody here can know whether it lives."""

Marker = Mapping[str, Any]
"""{"format": 1, "attempt": <name>~<who>-<random>, "files": {path: {"bytes", "sha256"}}}"""


class Mirror(Objects):
    """The objects of a bucket, and its committed folders."""

    def commit(self, aside: Path, target: Path) -> None:
        """Uploads `aside`, commits it as `target`, and gives it that name here. FileExistsError when there is
        one already, StoreError when the bucket does not answer, or a lease was lost."""
        files = {
            path.relative_to(aside).as_posix(): path for path in sorted(aside.rglob("*")) if path.is_file()
        }
        if not files:
            raise ValueError(f"nothing was written into {target}")
        self.bucket.demand_conditions()
        marker_key = self.below(target.parent, COMMITTED, target.name)
        if self.bucket.get(marker_key) is not None:
            raise FileExistsError(f"{self.bucket.url}/{marker_key}")
        attempt = f"{target.name}~{process.myself()}-{uuid.uuid4().hex[:12]}"
        data = self.below(target.parent, DATA, attempt)
        listed = {
            name: {"bytes": path.stat().st_size, "sha256": local.sha256_file(path)}
            for name, path in files.items()
        }
        marker = json.dumps({"format": 1, "attempt": attempt, "files": listed}).encode()
        try:
            self.bucket.each(self.bucket.upload, [(f"{data}/{name}", path) for name, path in files.items()])
            lease.guard(target)
        except BaseException:
            with suppress(StoreError):
                self.bucket.clear(f"{data}/")
            raise
        # not cleared when this raises: the marker may have come to be all the same
        if self.bucket.create(marker_key, marker) is None:
            self.bucket.clear(f"{data}/")
            raise FileExistsError(f"{self.bucket.url}/{marker_key}")
        with self._turn(target):
            if not self._have(target, json.loads(marker)):  # another process here may have brought it already
                self._forget(target)
                self._remember(target, marker)
                local.commit_folder(aside, target)

    def fetch(self, folder: Path) -> Path:
        """`folder` as it is committed now, whole on this disk. FileNotFoundError when it is not committed."""
        marker = self.marker(folder)
        if not self._have(folder, marker):
            with self._turn(folder):
                if not self._have(folder, marker):
                    self._forget(folder)
                    self._remember(folder, json.dumps(marker).encode())
                    with local.publish_folder(folder.parent, folder.name) as aside:
                        jobs = [(folder, marker["attempt"], aside, *file) for file in marker["files"].items()]
                        self.bucket.each(self._bring, jobs)
        return folder

    def piece(self, folder: Path, name: str) -> bytes:
        """One file of a committed folder, without bringing the others."""
        marker = self.marker(folder)
        if self._have(folder, marker):
            return (folder / name).read_bytes()
        if name not in marker["files"]:
            raise FileNotFoundError(folder / name)
        found = self.bucket.get(self.below(folder.parent, DATA, marker["attempt"], name))
        if found is None or hashlib.sha256(found[0]).hexdigest() != marker["files"][name]["sha256"]:
            raise self._damaged(folder, name)
        return found[0]

    def names(self, folder: Path) -> list[str]:
        """What is committed in `folder`, sorted."""
        prefix = self.below(folder, COMMITTED, "")
        return [entry.key[len(prefix) :] for entry in self.bucket.entries(prefix)]

    def discard(self, folder: Path) -> None:
        """Takes the folder away: the marker first, so that nobody sees half of it."""
        lease.guard(folder)
        with suppress(FileNotFoundError):
            marker = self.marker(folder)
            self.bucket.delete(self.below(folder.parent, COMMITTED, folder.name))
            self.bucket.clear(self.below(folder.parent, DATA, marker["attempt"], ""))
        with self._turn(folder):
            self._forget(folder)

    def sweep(self, parent: Path) -> list[Path]:
        """Deletes what dead writers uploaded and did not commit."""
        swept = []
        attempts = self.bucket.folders(self.below(parent, DATA, ""))
        committed = set(self.names(parent)) if attempts else set()
        for attempt in attempts:
            name, _, rest = attempt.rpartition("~")
            who = rest.rpartition("-")[0]
            prefix = self.below(parent, DATA, attempt, "")
            if who.count("-") != 2 or (name in committed and known_attempt(parent, name) == attempt):
                continue
            if process.here(who) and not process.dead(who):
                continue
            settled = SETTLED_S if process.here(who) else ABANDONED_S
            if any(entry.age_s < settled for entry in self.bucket.entries(prefix)):
                continue
            with suppress(FileNotFoundError):
                if self.marker(parent / name)["attempt"] == attempt:
                    continue
            self.bucket.clear(prefix)
            swept.append(parent / attempt)
        return swept

    def marker(self, folder: Path) -> Marker:
        """FileNotFoundError when `folder` is not committed."""
        found = self.bucket.get(self.below(folder.parent, COMMITTED, folder.name))
        if found is None:
            raise FileNotFoundError(2, "not committed", str(folder))
        try:
            marker: Marker = json.loads(found[0])
            if marker["format"] == 1 and marker["attempt"] and marker["files"].items():
                return marker
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise self._damaged(folder, "its marker")

    def _bring(self, folder: Path, attempt: str, aside: Path, name: str, fact: Mapping[str, Any]) -> None:
        path = aside / name
        if not path.resolve().is_relative_to(aside.resolve()):
            raise self._damaged(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.bucket.download(self.below(folder.parent, DATA, attempt, name), path)
        except FileNotFoundError:
            self.marker(folder)  # FileNotFoundError where it was discarded meanwhile
            raise self._damaged(folder, name) from None
        if path.stat().st_size != fact["bytes"] or local.sha256_file(path) != fact["sha256"]:
            raise self._damaged(folder, name)

    def _damaged(self, folder: Path, name: str) -> Damaged:
        where = f"{self.bucket.url}/{folder.relative_to(self.root).as_posix()}"
        return Damaged(f"{where} is damaged in the bucket: {name} is missing or altered; make it again")

    def _have(self, folder: Path, marker: Marker) -> bool:
        if known_attempt(folder.parent, folder.name) != marker["attempt"]:
            return False
        try:
            sizes = {name: (folder / name).stat().st_size for name in marker["files"]}
        except OSError:
            return False
        return all(sizes[name] == fact["bytes"] for name, fact in marker["files"].items())

    def _remember(self, folder: Path, marker: bytes) -> None:
        local.write_atomic(folder.parent / COMMITTED / folder.name, marker)

    def _forget(self, folder: Path) -> None:
        local.discard_folder(folder)
        (folder.parent / COMMITTED / folder.name).unlink(missing_ok=True)

    @contextmanager
    def _turn(self, folder: Path) -> Iterator[None]:
        """One process of this machine at a time changes what stands here for `folder`."""
        with local.lock(folder.parent / COMMITTED / f".{folder.name}.lock"):
            yield
