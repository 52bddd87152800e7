"""Raw files -> a data set in the store: every item read, checked and decoded once, in parallel."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.config import to_dict
from penstock.data.card import Facts, classes_by_split, dataset_card
from penstock.data.carry import carry_out
from penstock.data.dataset import FORMAT, SPLITS, Dataset
from penstock.data.fingerprint import input_key
from penstock.data.ray_map import Mapper, in_process, ray_map
from penstock.data.shards import Shards
from penstock.data.source import Reference, parse
from penstock.data.splits import Split, Use, assign, assign_for_evaluation
from penstock.errors import DataError, StoreError
from penstock.store import (
    Store,
    commit_folder,
    current,
    discard_folder,
    folder_aside,
    in_bucket,
    listed,
    lock,
    sweep,
    write_atomic,
)
from penstock.workload import Scan, Schema, Source, Workload, resolve

ROWS = 256
"""Rows in a shard, unless that made more than SHARDS of them."""
SHARDS = 1024
OnEvent = Callable[[dict[str, Any]], None]


def prepare(
    workload: Workload[Any],
    source: str,
    data_config: Any,
    store: Store,
    *,
    skip_bad: int = 0,
    seed: int = 0,
    use: Use = "train",
    schema: Schema | None = None,
    mapper: Mapper | None = None,
    on_event: OnEvent | None = None,
) -> Dataset:
    """The data set that `source` ("format:path" or "synthetic") makes for `workload`; nothing is done
    when the same input was prepared before.

    `data_config`: the `data` section of the workload's config. `skip_bad`: bad items to leave out
    (they are listed in the card); with more of them DataError names the first. `use="evaluate"`: only
    a test split, of what the source marks as test, else of every item. `schema`: a model's, to read
    labels by, instead of the source's own. `mapper`: who carries out the plans; by default a Ray
    cluster that is running, else this process. `on_event`: told `{"event": "prepare", "done", "total"}`
    after each shard.
    """
    reference = parse(source, workload.sources)
    reader: Source = resolve(workload.sources[reference.format])()
    scan = _scan(reader, reference, data_config, schema, use)
    key = input_key(workload, reference, scan, data_config, seed, use)
    index = store.datasets / "index" / f"{key}.json"
    with lock(index.with_suffix(".lock")):
        known = _known(store, index)
        if known is not None:
            _tolerate(known.card["skipped"], len(scan.items), skip_bad)
            return known
        sweep(store.datasets)
        job = _Job(workload, reference, scan, data_config, seed, use, skip_bad)
        dataset = job.run(store, mapper or _default_mapper(), on_event or (lambda event: None))
        write_atomic(index, json.dumps({"format": FORMAT, "dataset": dataset.id}).encode())
        return dataset


def prepared(
    workload: Workload[Any], source: str, data_config: Any, store: Store, *, seed: int = 0
) -> Dataset | None:
    """The data set that `prepare` made of the same input for training, None where there is none; looks at
    names, sizes and times only."""
    reference = parse(source, workload.sources)
    reader: Source = resolve(workload.sources[reference.format])()
    scan = _scan(reader, reference, data_config, None, "train")
    key = input_key(workload, reference, scan, data_config, seed, "train")
    return _known(store, store.datasets / "index" / f"{key}.json")


def _default_mapper() -> Mapper:
    ray = sys.modules.get("ray")
    return ray_map if ray is not None and ray.is_initialized() else in_process


def _scan(reader: Source, reference: Reference, config: Any, schema: Schema | None, use: Use) -> Scan:
    scan = reader.scan(reference.path, config)
    where = f"{reference.format}:{reference.base}" if reference.path else reference.format
    if not scan.items:
        raise DataError(
            f"source {where} holds no items; the workload's README shows the layout of {reference.format}:"
        )
    name, often = Counter(item.name for item in scan.items).most_common(1)[0]
    if often > 1:
        raise DataError(f"source {where} holds {often} items called {name!r}; names must differ")
    if schema is not None:
        if strange := [label for label in scan.schema.labels if label not in schema.labels]:
            raise DataError(
                f"source {where} has class {strange[0]!r}; the model knows {', '.join(schema.labels)}"
            )
        scan = replace(scan, schema=schema)
    elif use == "train" and scan.exclusive and len(scan.schema.labels) == 1:
        raise DataError(
            f"source {where} holds only one class, {scan.schema.labels[0]!r}; a classifier needs two"
        )
    # the order of rows hangs on names alone
    return replace(scan, items=sorted(scan.items, key=lambda item: item.name))


def _known(store: Store, index: Path) -> Dataset | None:
    try:
        return Dataset.load(store.datasets / str(json.loads(current(index))["dataset"]))
    except (OSError, ValueError, KeyError, DataError):
        return None  # never made, deleted or damaged: make it again


def _tolerate(bad: Sequence[Mapping[str, str]], items: int, skip_bad: int) -> None:
    if len(bad) > skip_bad:
        raise DataError(
            f"{bad[0]['item']}: {bad[0]['why']} ({len(bad)} bad of {items} items);"
            f" repair or remove, or go on without with --skip-bad {len(bad)}"
        )


@dataclass(frozen=True)
class _Job:
    workload: Workload[Any]
    reference: Reference
    scan: Scan
    config: Any
    seed: int
    use: Use
    skip_bad: int

    def run(self, store: Store, mapper: Mapper, on_event: OnEvent) -> Dataset:
        keep: set[str] = set()
        while True:
            with folder_aside(store.datasets) as folder:
                results = self._shards(folder, self._splits(keep), mapper, on_event)
                bad = [fault for result in results for fault in result["bad"]]
                bad.sort(key=lambda fault: str(fault["item"]))
                _tolerate(bad, len(self.scan.items), self.skip_bad)
                moved = self._classes_to_train(results)
                if not moved or moved <= keep:
                    return self._publish(store, folder, results, bad, self._fit(folder, results, on_event))
                # a class that has few items, none of them in train: labels are known only now
                keep |= moved

    def _splits(self, keep: set[str]) -> dict[str, Split]:
        if self.use == "evaluate":
            return assign_for_evaluation(self.scan.items)
        return assign(self.scan.items, self.seed, float(getattr(self.config, "validation", 0.2)), keep)

    def _shards(
        self, folder: Path, splits: Mapping[str, Split], mapper: Mapper, on_event: OnEvent
    ) -> list[dict[str, Any]]:
        for name, data in self.scan.schema.assets.items():
            write_atomic(folder / "assets" / name, data)
        plans = self._plans(folder, splits)
        results: list[dict[str, Any]] = []
        for result in mapper(carry_out, plans):
            if "error" in result:
                raise (StoreError if result["kind"] == "store" else DataError)(result["error"])
            results.append(result)
            on_event({"event": "prepare", "done": len(results), "total": len(plans)})
        sweep(folder)  # of workers that were killed and tried again
        return sorted(results, key=lambda result: str(result["shard"]))

    def _plans(self, folder: Path, splits: Mapping[str, Split]) -> list[dict[str, Any]]:
        kind = type(self.config)
        common = {
            "folder": str(folder),
            "here": in_bucket(folder.parent),  # the folder is of this machine's disk
            "source": self.workload.sources[self.reference.format],
            "decode": self.workload.decode,
            "config_class": [kind.__module__, *kind.__qualname__.split(".")],
            "config": to_dict(self.config),
            "labels": list(self.scan.schema.labels),
            "fields": dict(self.scan.schema.fields),
            "assets": sorted(self.scan.schema.assets),
        }
        plans = []
        for split in SPLITS:
            items = [item for item in self.scan.items if splits.get(item.name) == split]
            size = max(ROWS, -(-len(items) // SHARDS))
            for number, start in enumerate(range(0, len(items), size)):
                chosen = [
                    {"name": item.name, "split": item.split, "unit": item.unit, "where": dict(item.where)}
                    for item in items[start : start + size]
                ]
                plans.append(
                    {**common, "shard": f"{split}-{number:05d}.arrow", "split": split, "items": chosen}
                )
        return plans

    def _classes_to_train(self, results: Sequence[Mapping[str, Any]]) -> set[str]:
        """Items to move to train, one for each class that has none there. DataError on a class
        without items, or with none that may train."""
        classes = classes_by_split(results)
        labels = self.scan.schema.labels if self.scan.exclusive else ()
        if self.use == "evaluate" or not labels or not any(classes.values()):
            return set()
        moved = set()
        marked = {item.name for item in self.scan.items if item.split in ("test", "validation")}
        for index, label in enumerate(labels):
            if classes["train"].get(str(index)):
                continue
            names = {r["examples"][str(index)] for r in results if str(index) in r["examples"]}
            if not names:
                raise DataError(f"class {label!r} is empty: it has no usable items; add some or remove it")
            if not names - marked:
                raise DataError(f"class {label!r} has items in the test split only; add some to train")
            moved.add(min(names - marked))
        return moved

    def _fit(self, folder: Path, results: Sequence[Mapping[str, Any]], on_event: OnEvent) -> Schema:
        """The schema with what the workload learns from the training split as a whole."""
        schema = self.scan.schema
        if self.workload.fit is None or self.use == "evaluate":
            return schema
        on_event({"event": "fit"})
        train = [folder / r["shard"] for r in results if r["split"] == "train" and r["rows"]]
        learned: Mapping[str, bytes] = resolve(self.workload.fit)(Shards(train), self.config, schema)
        for name, data in learned.items():
            write_atomic(folder / "assets" / name, data)
        return replace(schema, assets={**schema.assets, **learned})

    def _publish(
        self,
        store: Store,
        folder: Path,
        results: Sequence[Mapping[str, Any]],
        bad: list[dict[str, str]],
        schema: Schema,
    ) -> Dataset:
        scan = replace(self.scan, schema=schema)
        facts = Facts(self.workload.name, self.reference, scan, to_dict(self.config), self.seed, self.use)
        card = dataset_card(facts, results, bad)
        write_atomic(folder / "dataset.json", json.dumps(card, indent=1, sort_keys=True).encode())
        target = store.datasets / str(card["id"])
        if target.name in listed(target.parent):
            # the same content from another place: keep what is there, unless it is damaged
            try:
                dataset = Dataset.load(target)
                dataset.verify()
                return dataset
            except DataError:
                discard_folder(target)
        with suppress(FileExistsError):  # another process was quicker with the same content
            commit_folder(folder, target)
        return Dataset.load(target)
