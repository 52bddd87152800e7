"""A published version on disk: its card, and the check that its folder is exactly what the card says.

models/<name>/<version>/card.json  weights.safetensors  records.arrow  assets/<file> …
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.errors import Damaged, ModelError
from penstock.store import fetched, in_bucket, piece

FORMAT = 1
CARD = "card.json"
WEIGHTS = "weights.safetensors"
RECORDS = "records.arrow"
ASSETS = "assets"


UNREADABLE: Mapping[str, Any] = {
    "workload": "?",
    "goal": {"metric": "?", "mode": "max"},
    "metrics": {},
    "data": {},
    "run": None,
    "weights_sha256": None,
}
"""What stands for the card of a damaged version in a listing."""


@dataclass(frozen=True)
class Version:
    """One version of a model. `card`: what card.json holds (UNREADABLE when `fault` says why it cannot be
    used); `aliases`: the names that point at it now."""

    name: str
    version: int
    path: Path
    card: Mapping[str, Any]
    aliases: tuple[str, ...] = ()
    fault: str = ""

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


def seal(card: Mapping[str, Any]) -> bytes:
    """card.json as bytes, with its own hash inside."""
    return json.dumps({**card, "sha256": own_hash(card)}, indent=1, allow_nan=False).encode() + b"\n"


def own_hash(card: Mapping[str, Any]) -> str:
    """Hex sha256 over the card without its field `sha256`, independent of layout."""
    rest = {key: value for key, value in card.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_card(path: Path, name: str, version: int) -> dict[str, Any]:
    """The card of the version in `path`; ModelError with one line when it is absent, altered, or of
    another version."""
    where = f"model {name}@{version}"
    try:
        if path.is_symlink():
            raise ModelError(f"{where} is damaged: its folder is a symbolic link{WAY_OUT}")
        raw = piece(path, CARD) if in_bucket(path) else plain_bytes(path / CARD, where)
        card: dict[str, Any] = json.loads(raw)
        sealed = isinstance(card, dict) and card.get("sha256") == own_hash(card)
    except FileNotFoundError:
        raise ModelError(f"{where} is damaged: {CARD} is missing{WAY_OUT}") from None
    except Damaged as error:
        raise ModelError(f"{where}: {error}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{where} is damaged: {CARD} is not readable as JSON{WAY_OUT}") from None
    except OSError as error:
        raise ModelError(f"{where}: {CARD} cannot be read: {error.strerror}") from None
    if not sealed:
        raise ModelError(f"{where} is damaged: {CARD} was changed after it was published{WAY_OUT}")
    if card.get("format") != FORMAT:
        raise ModelError(
            f"{where} has card format {card.get('format')!r}; upgrade Penstock, which reads {FORMAT}"
        )
    if (card["name"], card["version"]) != (name, version):
        raise ModelError(f"{where} is damaged: its card belongs to {card['name']}@{card['version']}{WAY_OUT}")
    return card


WAY_OUT = "; serve another version, or publish it again"


def folder_of(version: Version) -> Path:
    """The version's folder, with all that was published in it; ModelError where that is damaged."""
    try:
        return fetched(version.path)
    except (FileNotFoundError, Damaged) as error:
        raise ModelError(f"model {version.reference} is damaged: {error}{WAY_OUT}") from None


def plain_bytes(path: Path, where: str) -> bytes:
    """What a plain file holds; a symbolic link or a device is refused."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ModelError(f"{where} is damaged: {path.name} is not a plain file{WAY_OUT}")
    return path.read_bytes()


def verified_files(version: Version) -> dict[str, bytes]:
    """Every file the card lists (by its path in the version's folder), read once and checked against the
    card: what is used is what was hashed. ModelError names the first file that is missing, extra, a link,
    of another length, or altered. records.arrow is checked but not kept."""
    where = f"model {version.reference}"
    listed: Mapping[str, Mapping[str, Any]] = version.card["files"]
    folder = folder_of(version)
    found = present_files(folder, where)
    for relative in sorted(found - set(listed) - {CARD}):
        raise ModelError(f"{where} is damaged: {relative} is not part of it; remove it")
    contents: dict[str, bytes] = {}
    for relative in sorted(listed):
        if relative not in found:
            raise ModelError(f"{where} is damaged: {relative} is missing{WAY_OUT}")
        raw = read_listed(folder / relative, where, relative, listed[relative])
        if relative != RECORDS:
            contents[relative] = raw
    return contents


def read_listed(path: Path, where: str, relative: str, entry: Mapping[str, Any]) -> bytes:
    try:
        size, promised = path.lstat().st_size, entry["bytes"]
    except FileNotFoundError:
        raise ModelError(f"{where} is damaged: {relative} is missing{WAY_OUT}") from None
    if size != promised:
        raise ModelError(f"{where} is damaged: {relative} has {size:,} bytes, not {promised:,}{WAY_OUT}")
    try:
        raw = plain_bytes(path, where)
    except OSError as error:
        raise ModelError(f"{where}: {relative} cannot be read: {error.strerror}") from None
    if hashlib.sha256(raw).hexdigest() != entry["sha256"]:
        raise ModelError(f"{where} is damaged: the hash of {relative} does not match its card{WAY_OUT}")
    return raw


def present_files(folder: Path, where: str) -> set[str]:
    """Plain files below `folder` as relative paths; a link or special file is refused at once."""
    found: set[str] = set()
    for path in sorted(folder.rglob("*")):
        mode, relative = path.lstat().st_mode, path.relative_to(folder).as_posix()
        if stat.S_ISREG(mode):
            found.add(relative)
        elif not stat.S_ISDIR(mode) or relative != ASSETS:
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a plain file"
            raise ModelError(f"{where} is damaged: {relative} is {kind}{WAY_OUT}")
    return found
