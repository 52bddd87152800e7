"""Objects of a bucket by the path of the file that stands for them: small files that change, and logs."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from penstock.store import lease, local
from penstock.store.bucket import Bucket

COMMITTED, DATA, LOG = ".committed", ".data", ".log"


class Objects:
    """`root` on the disk for `bucket`. Several processes of a machine may share it."""

    def __init__(self, root: Path, bucket: Bucket) -> None:
        self.root, self.bucket = root, bucket
        self._counts: dict[str, int] = {}

    def key(self, path: Path) -> str:
        """Where `path` lies in the bucket."""
        parts, folder = [], self.root
        for part in path.relative_to(self.root).parts:
            attempt = known_attempt(folder, part)
            parts.append(f"{DATA}/{attempt}" if attempt else part)
            folder /= part
        return "/".join(parts)

    def below(self, folder: Path, *parts: str) -> str:
        """The key of something in `folder`; with "" at the end, what the keys of all of it begin with."""
        key = self.key(folder)
        return "/".join([key, *parts] if key else parts)

    # ---------------------------------------------------------------- files that change

    def put(self, path: Path, data: bytes) -> None:
        lease.guard(path)
        self.bucket.put(self.key(path), data)

    def read(self, path: Path) -> bytes:
        """FileNotFoundError where there is none."""
        found = self.bucket.get(self.key(path))
        if found is None:
            raise FileNotFoundError(2, "no such file", str(path))
        return found[0]

    def push(self, path: Path) -> None:
        """The object becomes what the file is."""
        lease.guard(path)
        self.bucket.upload(self.key(path), path)

    def pull(self, path: Path) -> None:
        """The file becomes what the object is; absent where there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{local.ASIDE}{os.getpid()}-{uuid.uuid4().hex[:12]}")
        try:
            self.bucket.download(self.key(path), aside)
            aside.replace(path)
        except FileNotFoundError:
            path.unlink(missing_ok=True)
        finally:
            aside.unlink(missing_ok=True)

    def remove(self, path: Path) -> None:
        lease.guard(path)
        self.bucket.delete(self.key(path))
        path.unlink(missing_ok=True)

    def gather(self, folder: Path) -> None:
        """Brings every file right in `folder` that is not here, and forgets those that are gone."""
        prefix = self.below(folder, "")
        found = {entry.key[len(prefix) :]: entry.etag for entry in self.bucket.entries(prefix)}
        there = {name: etag for name, etag in found.items() if "/" not in name}
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith(".") and path.name not in there:
                path.unlink()
        other = [folder / name for name, etag in there.items() if md5(folder / name) != etag]
        self.bucket.each(self.pull, [(path,) for path in other])

    def subfolders(self, folder: Path) -> list[str]:
        return [name for name in self.bucket.folders(self.below(folder, "")) if not name.startswith(".")]

    def clear(self, folder: Path) -> None:
        """Deletes what is in a plain folder."""
        self.bucket.clear(self.below(folder, ""))

    # ---------------------------------------------------------------- logs

    def append(self, path: Path, record: bytes) -> int:
        """One more object of the log `path`, the next number; who else appends gets another one."""
        lease.guard(path)
        prefix = self.below(path, LOG, "")
        number = self._counts.get(prefix)
        if number is None:
            number = sum(1 for _ in self.bucket.entries(prefix))
        while self.bucket.create(f"{prefix}{number:010d}", record) is None:
            number += 1
        self._counts[prefix] = number + 1
        return number

    def records(self, path: Path, start: int) -> Iterator[bytes]:
        """Those of the log from number `start` on, in the order they were appended."""
        prefix = self.below(path, LOG, "")
        after = f"{prefix}{start - 1:010d}" if start else ""
        for entry in self.bucket.entries(prefix, after):
            found = self.bucket.get(entry.key)
            if found is not None:
                yield found[0]

    def last_records(self, path: Path) -> Iterator[bytes]:
        """The newest first."""
        for entry in reversed(list(self.bucket.entries(self.below(path, LOG, "")))):
            found = self.bucket.get(entry.key)
            if found is not None:
                yield found[0]


def known_attempt(folder: Path, name: str) -> str:
    """The attempt of the committed folder `name` that stands here; "" where none does."""
    if name.startswith("."):
        return ""
    try:
        return str(json.loads((folder / COMMITTED / name).read_bytes())["attempt"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def md5(path: Path) -> str:
    """What S3 gives as the ETag of a short object; "" where there is no file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""
