"""What a card says about where a model came from: its weights, its code, its data."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """Hex sha256 over (name, dtype, shape, bytes) of every tensor, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def code(point: EntryPoint) -> dict[str, str]:
    """The versions of Penstock and of the workload's package, and a hash over the workload's Python
    files by name and content."""
    package = "unknown" if point is None or point.dist is None else point.dist.version
    return {
        "penstock": package_version("penstock"),
        "workload": package,
        "source_sha256": source_hash(point.value),
    }


def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed


def source_hash(reference: str) -> str:
    """Hex sha256 over the .py and .toml files of the module that "module:object" names; "" when it has
    no files of its own (made in a session)."""
    module = reference.partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return ""
    origin = Path(spec.origin)
    folder = origin.parent
    files = [origin]
    if spec.submodule_search_locations is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def data(dataset_card: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's card keeps of dataset.json: which data, from where, under what licence."""
    source = dataset_card["source"]
    return {
        "id": dataset_card["id"],
        "source": f"{source['format']}:{source['name']}" if source["name"] else source["format"],
        "licence": dataset_card["licence"],
        "counts": dict(dataset_card["counts"]),
        "test_sha256": test_hash(dataset_card.get("shards", {})),
        "skipped": len(dataset_card.get("skipped", ())),
        "seed": dataset_card.get("seed", 0),
        "synthetic": source["format"] == "synthetic",
    }


def test_hash(shards: Mapping[str, Mapping[str, Any]]) -> str:
    """What two data sets share when they hold the same test items, whatever they train on. Test rows are
    stored as they came, so another image size or sampling rate changes nothing."""
    hashes = [shard["sha256"] for _, shard in sorted(shards.items()) if shard["split"] == "test"]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else ""
