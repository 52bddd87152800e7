"""Aliases: names like `live` and `candidate` that point at a version, moved atomically.

aliases.json holds what was decided up to the version `settled`. A version published after it (its writer
may have died before it wrote here) brings its first alias in its own card, so a crash between the two
loses nothing: readers and writers derive the same pointers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from penstock.errors import ModelError
from penstock.registry.card import FORMAT, read_card
from penstock.store import current, listed, lock, write_atomic

ALIASES = "aliases.json"
LOCK = ".lock"
LIVE = "live"
CANDIDATE = "candidate"

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Pointers:
    """What was decided about the versions of one model. `aliases`: alias -> version; `shares`: alias -> the
    part of the requests that endpoints give it; `withdrawn`: version -> why endpoints took it out of
    traffic; `forced`: versions that endpoints serve though they are worse or slower than the one before."""

    aliases: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    withdrawn: Mapping[int, str] = field(default_factory=dict)
    forced: frozenset[int] = frozenset()

    def moved(self, alias: str, version: int, share: float | None = None, force: bool = False) -> Pointers:
        """With `alias` at `version`, which is given another chance if it was withdrawn."""
        shares = without(self.shares, alias) | ({alias: share} if share is not None else {})
        forced = self.forced | {version} if force else self.forced - {version}
        return Pointers({**self.aliases, alias: version}, shares, without(self.withdrawn, version), forced)

    def succeeded(self, version: int) -> Pointers:
        """With `version`, the candidate, live; as it is when another one is candidate by now."""
        if self.aliases.get(CANDIDATE) != version:
            return self
        live = {**self.aliases, LIVE: version}
        return replace(self, aliases=live, shares=without(self.shares, CANDIDATE))

    def taken_back(self, alias: str, version: int, before: int | None, why: str) -> Pointers:
        """With `version` withdrawn and without a share; `alias` is `before` again if it is `version`."""
        aliases = dict(self.aliases)
        if aliases.get(alias) == version and before is not None:
            aliases[alias] = before
        shares = {one: share for one, share in self.shares.items() if aliases.get(one) != version}
        return replace(self, aliases=aliases, shares=shares, withdrawn={**self.withdrawn, version: why})


def numbers(folder: Path) -> list[int]:
    """The committed versions of the model in `folder`, ascending; nothing half-written is among them."""
    return sorted(
        int(name)
        for name in listed(folder)
        if name.isascii() and name.isdecimal() and not name.startswith("0")
    )


def pointers(folder: Path, versions: Iterable[int]) -> Pointers:
    """What is decided about the model in `folder`; an alias of a version that is gone is left out."""
    versions = list(versions)
    stored, settled = read(folder)
    aliases = dict(stored.aliases)
    for version in versions:
        if version > settled:
            with suppress(ModelError):  # a damaged card makes no claims; `find` says what is wrong with it
                alias = read_card(folder / str(version), folder.name, version)["first_alias"]
                aliases[CANDIDATE if alias == LIVE and LIVE in aliases else alias] = version
    there = {alias: version for alias, version in sorted(aliases.items()) if version in versions}
    # a share was given to one version: another one that took the alias since has none
    shares = {a: share for a, share in stored.shares.items() if there.get(a) == stored.aliases.get(a)}
    return replace(stored, aliases=there, shares=shares)


def read(folder: Path) -> tuple[Pointers, int]:
    """(what was written down, the last version that was settled)."""
    try:
        stored = json.loads(current(folder / ALIASES))
        aliases = {str(alias): int(version) for alias, version in stored["aliases"].items()}
        shares = {str(alias): float(share) for alias, share in stored.get("shares", {}).items()}
        withdrawn = {int(version): str(why) for version, why in stored.get("withdrawn", {}).items()}
        forced = frozenset(int(version) for version in stored.get("forced", ()))
        return Pointers(aliases, shares, withdrawn, forced), int(stored["settled"])
    except FileNotFoundError:
        return Pointers(), 0
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"the aliases of model {folder.name} are damaged; delete its {ALIASES} and promote again"
        ) from None


def settle(folder: Path, change: Callable[[Pointers], Pointers] = lambda now: now) -> Pointers:
    """Write down what `change` makes of the pointers; one writer at a time, readers see old or new."""
    with lock(folder / LOCK):
        versions = numbers(folder)
        now = change(pointers(folder, versions))
        stored = {
            "format": FORMAT,
            "aliases": dict(sorted(now.aliases.items())),
            "shares": dict(sorted(now.shares.items())),
            "withdrawn": {str(version): why for version, why in sorted(now.withdrawn.items())},
            "forced": sorted(now.forced),
            "settled": max(versions, default=0),
        }
        write_atomic(folder / ALIASES, json.dumps(stored, indent=1).encode() + b"\n")
    return now


def without(values: Mapping[K, V], key: K) -> dict[K, V]:
    return {one: value for one, value in values.items() if one != key}
