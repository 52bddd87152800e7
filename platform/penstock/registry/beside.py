"""What is learned about a version after it was published: kept beside the versions, which nobody changes, and
shown in their cards.

models/<name>/<file>.json  {"format": 1, "versions": {"3": {…}}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.errors import ModelError
from penstock.registry.card import FORMAT
from penstock.registry.pointers import LOCK
from penstock.store import current, lock, write_atomic


def noted(folder: Path, file: str, way_out: str) -> dict[int, dict[str, Any]]:
    """Version -> what `file` says of it, of the model in `folder`; ModelError with the `way_out` where it
    cannot be read."""
    try:
        stored = json.loads(current(folder / file))
        return {int(number): dict(values) for number, values in stored["versions"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{file} of model {folder.name} is damaged; delete it: {way_out}") from None


def note(
    folder: Path,
    file: str,
    way_out: str,
    number: int,
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> None:
    """Write down what `change` makes of what `file` says of version `number`; one writer at a time."""
    with lock(folder / LOCK):
        known = noted(folder, file, way_out)
        known[number] = dict(change(known.get(number, {})))
        stored = {"format": FORMAT, "versions": {str(n): values for n, values in sorted(known.items())}}
        write_atomic(folder / file, json.dumps(stored, indent=1).encode() + b"\n")
