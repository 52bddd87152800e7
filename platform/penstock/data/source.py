"""Where raw data is and how it is read: `format:path`, or `synthetic`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from penstock.errors import DataError, nearest


class Reference(NamedTuple):
    """`path` is absolute, since workers run in other folders; "" for generated data."""

    format: str
    path: str

    @property
    def base(self) -> str:
        """The last part of the path: what may be told about it elsewhere."""
        return Path(self.path).name


def parse(text: str, formats: Iterable[str]) -> Reference:
    """The reference that `text` is. DataError when its format is none of `formats`, the workload's, or
    the path does not exist."""
    known = sorted(formats)
    kind, colon, path = text.partition(":")
    if kind not in known:
        if not colon:
            forms = ", ".join(name if name == "synthetic" else f"{name}:PATH" for name in known)
            raise DataError(f"no source {text!r}{_hint(kind, known)}; write one of {forms}")
        raise DataError(f"no source format {kind!r} in {text!r}{nearest(kind, known)}")
    if kind == "synthetic":
        if path:
            raise DataError(f"source {text!r}: synthetic data has no path; set data.* to change it")
        return Reference(kind, "")
    if not path:
        raise DataError(f"source {text!r} names no path; write {kind}:PATH")
    if "://" in path:
        raise DataError(f"source {text!r}: not a local path; copy the data to a folder first")
    place = Path(path).expanduser().resolve()
    if not place.exists():
        raise DataError(f"source {text!r}: no file or folder {str(place)!r}; check the path")
    return Reference(kind, str(place))


def licence(root: Path) -> str:
    """The first line of a licence file in a folder of raw data, at most 80 characters; else "unknown"."""
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        if (root / name).is_file():
            text = (root / name).read_text(encoding="utf-8", errors="replace").strip()
            return text.partition("\n")[0].strip()[:80]
    return "unknown"


def _hint(word: str, known: Iterable[str]) -> str:
    hint = nearest(word, known)
    return hint if hint.startswith("; did you mean") else ""
