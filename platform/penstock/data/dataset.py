"""A prepared data set: `datasets/<id>/` with dataset.json, Arrow shards and assets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from penstock.data.shards import Shards
from penstock.errors import Damaged, DataError
from penstock.store import fetched, sha256_file
from penstock.workload import Schema

FORMAT = 1
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """What `prepare` made.

    `card`: dataset.json as a dict: workload, source, licence, counts and classes by split, skipped
    items, shards with their hashes, the config it hangs on. Rows of `train` are decoded and hold
    `item` (the item's name); rows of `validation` and `test` are as a client would send them and hold
    `item` and `unit` (what intervals resample).
    """

    path: Path
    card: Mapping[str, Any]
    schema: Schema

    @classmethod
    def load(cls, path: Path) -> Dataset:
        """The data set in folder `path`; DataError when it is missing, damaged or of a later format.
        Sizes are checked here, hashes by `verify`."""
        try:
            card = json.loads((fetched(path) / "dataset.json").read_text(encoding="utf-8"))
            if card["format"] != FORMAT:
                raise DataError(f"data set {path} has format {card['format']}; this version reads {FORMAT}")
            for name, shard in card["shards"].items():
                if (path / name).stat().st_size != shard["bytes"]:
                    raise ValueError(f"{name} has another size")
            assets = {name: (path / "assets" / name).read_bytes() for name in card["schema"]["assets"]}
            schema = Schema(tuple(card["schema"]["labels"]), card["schema"]["fields"], assets)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Damaged) as error:
            raise DataError(
                f"data set {path} is missing or damaged ({error!s:.120}); prepare it again"
            ) from None
        return cls(path, card, schema)

    def verify(self) -> None:
        """DataError when a shard or an asset is not what was written."""
        hashes = {name: shard["sha256"] for name, shard in self.card["shards"].items()}
        hashes |= {f"assets/{name}": sha256 for name, sha256 in self.card["schema"]["assets"].items()}
        for name, sha256 in hashes.items():
            if not (self.path / name).is_file() or sha256_file(self.path / name) != sha256:
                raise DataError(
                    f"data set {self.path} is damaged at {name}; delete the folder and prepare it again"
                )

    @property
    def id(self) -> str:
        """16 hex digits that stand for the content: the name of its folder."""
        return str(self.card["id"])

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of which `id` is the beginning."""
        return str(self.card["fingerprint"])

    @property
    def counts(self) -> dict[str, int]:
        """Items by split: train, validation, test."""
        return {split: int(self.card["counts"][split]) for split in SPLITS}

    @property
    def synthetic(self) -> bool:
        """Whether it was generated, not read."""
        return bool(self.card["source"]["format"] == "synthetic")

    @cached_property
    def train(self) -> Shards:
        return self._split("train")

    @cached_property
    def validation(self) -> Shards:
        return self._split("validation")

    @cached_property
    def test(self) -> Shards:
        return self._split("test")

    def _split(self, split: str) -> Shards:
        names = [name for name, shard in sorted(self.card["shards"].items()) if shard["split"] == split]
        return Shards([self.path / name for name in names])
