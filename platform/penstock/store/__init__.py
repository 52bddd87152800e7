"""Everything that is kept: data sets, runs, searches, models; in a folder, or in a bucket for many machines.

What is here is committed or absent, whenever its writer dies, and of any number of writers one wins.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from penstock.disk import cache
from penstock.disk import explained as explained  # part of what a store offers its writers
from penstock.errors import StoreError
from penstock.store.files import (
    append_object,
    arrow_place,
    clear_folder,
    commit_folder,
    current,
    discard_file,
    discard_folder,
    fetched,
    gathered,
    in_bucket,
    listed,
    lock,
    lock_held,
    mirror_of,
    mirrors,
    newest_objects,
    piece,
    publish_folder,
    pull,
    push,
    read_objects,
    subfolders,
    sweep,
    write_atomic,
)
from penstock.store.local import ASIDE, Busy, folder_aside, sha256_file

__all__ = [
    "ASIDE",
    "Busy",
    "Store",
    "address",
    "append_object",
    "arrow_place",
    "clear_folder",
    "commit_folder",
    "current",
    "discard_file",
    "discard_folder",
    "explained",
    "fetched",
    "folder_aside",
    "gathered",
    "in_bucket",
    "listed",
    "lock",
    "lock_held",
    "newest_objects",
    "piece",
    "publish_folder",
    "pull",
    "push",
    "read_objects",
    "sha256_file",
    "subfolders",
    "sweep",
    "write_atomic",
]


@dataclass(frozen=True)
class Store:
    """The folders of one store. `root`: where it is on this disk; of a bucket, the part that is here."""

    root: Path

    @classmethod
    def open(cls, root: str | Path | None = None) -> Store:
        """The store at `root`, a folder or s3://bucket/prefix, else at PENSTOCK_STORE, else at ~/.penstock;
        a folder is made where there is none. StoreError when that cannot be a folder, or the bucket does not
        answer."""
        place = str(root or os.environ.get("PENSTOCK_STORE") or "~/.penstock")
        bucket = "://" in place or place.lower().startswith("s3:")
        store = cls(mirrored(place) if bucket else Path(place).expanduser().absolute())
        with explained(store.root):
            for folder in (store.datasets, store.runs, store.searches, store.models):
                folder.mkdir(parents=True, exist_ok=True)
        return store

    @property
    def url(self) -> str:
        """What another process opens it by: the folder, or s3://…"""
        return address(self.root)

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def searches(self) -> Path:
        return self.root / "searches"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def exports(self) -> Path:
        return self.root / "exports"


def address(path: Path) -> str:
    """Where `path` is, for a process of whichever machine: the path itself, or s3://…"""
    mirror = mirror_of(path)
    if mirror is None:
        return str(path)
    return "/".join([mirror.bucket.url, *path.relative_to(mirror.root).parts])


def mirrored(url: str) -> Path:
    """The folder that stands for the bucket at `url`, below PENSTOCK_CACHE, else below ~/.cache/penstock."""
    from penstock.store.bucket import Bucket
    from penstock.store.client import without_user
    from penstock.store.mirror import Mirror

    if not url.startswith("s3://"):
        raise StoreError(f"store {without_user(url)!r}: only folders and s3://BUCKET/PREFIX can be stores")
    bucket = Bucket(url)
    root = cache() / hashlib.sha256(f"{bucket.endpoint} {bucket.url}".encode()).hexdigest()[:16]
    if root not in mirrors:
        bucket.check()
        mirrors[root] = Mirror(root, bucket)
    return root
