"""What stands for an input (so that a second prepare does nothing) and for a content (a data set's id)."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from penstock.config import to_dict
from penstock.data.dataset import FORMAT
from penstock.data.source import Reference
from penstock.errors import DataError
from penstock.workload import Scan, Schema, Workload


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def schema_card(schema: Schema) -> dict[str, Any]:
    """A schema as a card holds it: assets by their hashes."""
    assets = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(schema.assets.items())}
    return {"labels": list(schema.labels), "fields": dict(schema.fields), "assets": assets}


def input_key(
    workload: Workload[Any], reference: Reference, scan: Scan, config: Any, seed: int, use: str
) -> str:
    """24 hex digits that change when a raw file (name, size, time), an item, the config or the code that
    reads and decodes changes."""
    source = workload.sources[reference.format]
    return digest(
        {
            "format": FORMAT,
            "workload": workload.name,
            "source": [reference.format, source, workload.decode, workload.fit],
            "code": _code((source, workload.decode, *filter(None, [workload.fit]))),
            "config": to_dict(config),
            "seed": seed,
            "use": use,
            "schema": schema_card(scan.schema),
            "items": [[item.name, item.split, item.unit] for item in scan.items],
            "files": sorted(_stats(scan.files, Path(reference.path))),
        }
    )[:24]


def _stats(files: Iterable[Path], root: Path) -> Iterator[list[Any]]:
    for file in files:
        try:
            found = file.stat()
        except OSError as error:
            raise DataError(f"{file}: {error.strerror}") from None
        # relative, so that a folder that was moved is the same input
        name = file.relative_to(root) if file.is_relative_to(root) else file
        yield [str(name), found.st_size, found.st_mtime_ns]


def _code(references: Iterable[str]) -> dict[str, str]:
    """Module or package folder -> hash of its source: a workload decodes with the help of its other files."""
    hashes = {}
    for reference in references:
        module = importlib.import_module(reference.partition(":")[0])
        file = Path(module.__file__ or "")
        files = sorted(file.parent.glob("*.py")) if "." in module.__name__ else [file]
        sources = [hashlib.sha256(each.read_bytes()).hexdigest() for each in files if each.is_file()]
        hashes[module.__name__] = digest(sources)
    return hashes
