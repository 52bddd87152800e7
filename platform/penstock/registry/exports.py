"""What versions were exported to, with the parity that was measured: shown in their cards as `exports`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.registry.beside import note, noted

EXPORTS = "exports.json"


def exports_of(folder: Path) -> dict[int, dict[str, Any]]:
    """Version -> format ("onnx") -> what is known of the export, of the model in `folder`."""
    return noted(folder, EXPORTS, way_out(folder))


def exported(folder: Path, number: int, to: str, facts: Mapping[str, Any]) -> None:
    """Version `number` of the model in `folder` was exported to `to`; an earlier such export is forgotten."""
    note(folder, EXPORTS, way_out(folder), number, lambda known: {**known, to: dict(facts)})


def way_out(folder: Path) -> str:
    return f"penstock export {folder.name} makes another"
