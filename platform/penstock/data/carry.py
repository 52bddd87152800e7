"""What a worker does in `prepare`: one plan -> one shard. A plan and its result are plain JSON."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.config import from_dict
from penstock.data.shards import write_shard
from penstock.errors import DataError, PenstockError, StoreError
from penstock.workload import Fault, Item, Row, Schema, resolve


def carry_out(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the plan's items, checks and decodes each, writes the shard.

    Result: `shard`, `split`, `rows`, `bytes`, `sha256`, `labels` (class index as text -> count),
    `examples` (class index as text -> name of its first item), `bad` ([{"item", "why"}]); or `error`
    with `kind` "data" or "store". No file is written where no row is left.
    """
    result = {key: plan[key] for key in ("shard", "split")}
    try:
        return result | _carry_out(plan)
    except PenstockError as error:  # said by the driver, in its own words and without a remote traceback
        return result | {"error": str(error), "kind": "store" if isinstance(error, StoreError) else "data"}


def _carry_out(plan: Mapping[str, Any]) -> dict[str, Any]:
    rows: list[Row] = []
    bad: list[dict[str, str]] = []
    labels: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for item, raw, row in _checked(plan):
        if isinstance(row, Fault):
            bad.append({"item": item.name, "why": " ".join(row.why.split())})
            continue
        for label in map(str, classes_of(raw)):
            labels[label] += 1
            examples.setdefault(label, item.name)
        rows.append(row)
    written: Mapping[str, Any] = {"rows": 0, "bytes": 0, "sha256": ""}
    if rows:
        try:
            written = write_shard(Path(plan["folder"]) / plan["shard"], rows)
        except TypeError as error:
            raise DataError(f"rows of {plan['source']} cannot be stored: {error}") from error
    return {**written, "labels": dict(labels), "examples": examples, "bad": bad}


def classes_of(raw: Row) -> list[int]:
    """The class indices of a raw row: its `label`, or each of its `labels`."""
    if "label" in raw:
        return [int(raw["label"])]
    return [int(label) for label in raw.get("labels", ())]


def _checked(plan: Mapping[str, Any]) -> Iterator[tuple[Item, Row, Row | Fault]]:
    """Each item, its raw row, and the row to store or why there is none."""
    module, *names = plan["config_class"]
    kind: Any = importlib.import_module(module)
    for name in names:
        kind = getattr(kind, name)
    config = from_dict(kind, plan["config"])
    schema = _schema(plan)
    decode = resolve(plan["decode"])
    for item, raw in _read(plan["source"], [Item(**item) for item in plan["items"]], config, schema):
        if isinstance(raw, Fault):
            yield item, {}, raw
            continue
        known = range(len(schema.labels))
        if known and (strange := [label for label in classes_of(raw) if label not in known]):
            yield item, raw, Fault(f"label {strange[0]} is not one of {len(known)} classes")
            continue
        try:
            # also where the raw row is what is stored: nothing that cannot be decoded gets in
            decoded = decode(raw, config, schema)
        except ValueError as error:
            yield item, raw, Fault(str(error))
            continue
        if plan["split"] == "train":
            yield item, raw, {**decoded, "item": item.name}
        else:
            yield item, raw, {**raw, "item": item.name, "unit": item.unit or item.name}


def _read(
    reference: str, items: Sequence[Item], config: Any, schema: Schema
) -> Iterator[tuple[Item, Row | Fault]]:
    rows = iter(resolve(reference)().read(items, config, schema))
    for item in items:
        try:
            row = next(rows)
        except StopIteration:
            raise DataError(
                f"source {reference} gave no row for {item.name}; read() must give one an item"
            ) from None
        except OSError as error:
            raise DataError(f"{item.name}: {error.strerror or error}") from None
        yield item, row


def _schema(plan: Mapping[str, Any]) -> Schema:
    folder = Path(plan["folder"]) / "assets"
    assets = {name: (folder / name).read_bytes() for name in plan["assets"]}
    return Schema(tuple(plan["labels"]), plan["fields"], assets)
