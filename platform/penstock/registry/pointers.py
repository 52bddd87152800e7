"""Aliases: names like `live` and `candidate` that point at a version, moved atomically.

aliases.json holds what was decided up to the version `settled`. A version published after it (its writer
may have died before it wrote here) brings its first alias in its own card, so a crash between the two
loses nothing: readers and writers derive the same pointers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from penstock.errors import ModelError
from penstock.registry.card import FORMAT, read_card
from penstock.store import lock, write_atomic

ALIASES = "aliases.json"
LOCK = ".lock"
LIVE = "live"
CANDIDATE = "candidate"


def numbers(folder: Path) -> list[int]:
    """The committed versions of the model in `folder`, ascending; nothing half-written is among them."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(
            int(path.name)
            for path in folder.iterdir()
            if path.name.isascii() and path.name.isdecimal() and not path.name.startswith("0")
        )
    return []


def pointers(folder: Path, versions: Iterable[int]) -> dict[str, int]:
    """Alias -> version of the model in `folder`; an alias of a version that is gone is left out."""
    versions = list(versions)
    aliases, settled = read(folder)
    for version in versions:
        if version > settled:
            with suppress(ModelError):  # a damaged card makes no claims; `find` says what is wrong with it
                alias = read_card(folder / str(version), folder.name, version)["first_alias"]
                aliases[CANDIDATE if alias == LIVE and LIVE in aliases else alias] = version
    return {alias: version for alias, version in sorted(aliases.items()) if version in versions}


def read(folder: Path) -> tuple[dict[str, int], int]:
    """(alias -> version, the last version that was settled)."""
    path = folder / ALIASES
    try:
        stored = json.loads(path.read_bytes())
        aliases = {str(alias): int(version) for alias, version in stored["aliases"].items()}
        return aliases, int(stored["settled"])
    except FileNotFoundError:
        return {}, 0
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"the aliases of model {folder.name} are damaged; delete its {ALIASES} and promote again"
        ) from None


def settle(folder: Path, moved: dict[str, int] | None = None) -> dict[str, int]:
    """Write the pointers down, with `moved` on top; one writer at a time, readers see old or new."""
    with lock(folder / LOCK):
        versions = numbers(folder)
        aliases = {**pointers(folder, versions), **(moved or {})}
        stored = {"format": FORMAT, "aliases": aliases, "settled": max(versions, default=0)}
        write_atomic(folder / ALIASES, json.dumps(stored, indent=1).encode() + b"\n")
    return dict(sorted(aliases.items()))
