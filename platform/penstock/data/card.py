"""dataset.json: what a data set is, and what it was made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from penstock.data.dataset import FORMAT, SPLITS
from penstock.data.fingerprint import digest, schema_card
from penstock.data.source import Reference
from penstock.workload import Scan

Result = Mapping[str, Any]
"""What `carry_out` says about a shard."""


class Facts(NamedTuple):
    """What was known before a shard was written; `config` as plain JSON."""

    workload: str
    reference: Reference
    scan: Scan
    config: dict[str, Any]
    seed: int
    use: str


def dataset_card(facts: Facts, results: Sequence[Result], bad: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The card; its `id` is the beginning of a hash of the content. No absolute path, no time."""
    shards = {
        result["shard"]: {name: result[name] for name in ("split", "rows", "bytes", "sha256")}
        for result in results
        if result["rows"]
    }
    schema = schema_card(facts.scan.schema)
    content = {
        "workload": facts.workload,
        "config": facts.config,
        "shards": {name: shard["sha256"] for name, shard in shards.items()},
        "schema": schema,
        "skipped": list(bad),  # or a clean copy of the same data would hide that something was left out
    }
    fingerprint = digest(content)
    rows = Counter[str]()
    for shard in shards.values():
        rows[shard["split"]] += shard["rows"]
    return {
        "format": FORMAT,
        "id": fingerprint[:16],
        "fingerprint": fingerprint,
        "workload": facts.workload,
        "source": {"format": facts.reference.format, "name": facts.reference.base},
        "use": facts.use,
        "seed": facts.seed,
        "config": facts.config,
        "schema": schema,
        "licence": facts.scan.licence,
        "counts": {split: rows[split] for split in SPLITS},
        "classes": {
            split: {label: counts[str(index)] for index, label in enumerate(schema["labels"])}
            for split, counts in classes_by_split(results).items()
        },
        "skipped": list(bad),
        "shards": shards,
    }


def classes_by_split(results: Sequence[Result]) -> dict[str, Counter[str]]:
    """Split -> class index as text -> items."""
    classes: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for result in results:
        classes[result["split"]].update(result["labels"])
    return classes
