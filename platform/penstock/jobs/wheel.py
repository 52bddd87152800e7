"""An installed distribution as a wheel, byte for byte the same for the same files.

Only what the package owns gets in: the files of its RECORD, or, for an editable installation, what the
project's own build backend puts into a wheel.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from penstock.errors import PenstockError

LIMIT = 100 * 1024**2
"""Bytes of one wheel, also unpacked: the dashboard takes HTTP bodies up to this."""
_BUILD_S = 300
_LEFT_OUT = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")  # about an installation, not the package
_BACKEND = """
import importlib, sys
target, backend, *places = sys.argv[1:]
sys.path[:0] = places
name, _, path = backend.partition(":")
hook = importlib.import_module(name)
for part in filter(None, path.split(".")):
    hook = getattr(hook, part)
hook.build_wheel(target)
"""


@dataclass(frozen=True)
class Wheel:
    """A package to send. `name`: such as penstock-0.2.0; `largest`: its largest files, (name, bytes)."""

    name: str
    data: bytes
    largest: tuple[tuple[str, int], ...]

    @property
    def package(self) -> str:
        """What Ray calls it: by content, so that a changed tree is never taken for one that a node has."""
        return f"_ray_pkg_{hashlib.sha1(self.data, usedforsecurity=False).hexdigest()}.zip"


def make(distribution: Distribution) -> Wheel:
    """The wheel of an installed distribution. PenstockError: it cannot be made, or is larger than LIMIT."""
    root = editable_root(distribution)
    files = _recorded(distribution) if root is None else build(root)
    return pack(files, title(distribution))


def title(distribution: Distribution) -> str:
    return f"{distribution.name} {distribution.version}"


def editable_root(distribution: Distribution) -> Path | None:
    """The project's folder where the distribution is an editable installation of one."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(origin["url"]).path))


def _recorded(distribution: Distribution) -> dict[str, bytes]:
    """The package's files, by the RECORD that its installation left."""
    called = title(distribution)
    if distribution.read_text("RECORD") is None:
        raise PenstockError(f"{called} has no RECORD of its files, so no wheel can be made; pip install it")
    paths: dict[str, Path] = {}
    for file in distribution.files or ():
        if ".." in file.parts or file.is_absolute() or "__pycache__" in file.parts:
            continue  # scripts and caches, made for the machine they are on
        if file.parts[0].endswith(".dist-info") and file.name in _LEFT_OUT:
            continue
        paths[str(file)] = Path(str(file.locate()))
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise PenstockError(f"{called} is damaged: {missing[0]} of its RECORD is missing; install it again")
    _demand_size({name: path.stat().st_size for name, path in paths.items()}, called)
    return {name: path.read_bytes() for name, path in paths.items()}


def build(root: Path) -> dict[str, bytes]:
    """What the build backend of the project at `root` puts into its wheel.

    It works, without network, on a copy made of links: it may write what it likes, and a large stray file
    is neither copied nor read. Files above LIMIT are empty in the copy; one that gets into the wheel is an
    error.
    """
    if not root.is_dir():
        raise PenstockError(
            f"the project {str(root)!r} of an editable installation is gone; install it again"
        )
    backend, places = _backend(root)
    module = backend.partition(":")[0].partition(".")[0]
    if not places and find_spec(module) is None:
        extra = "'penstock[jobs]'" if module == "hatchling" else module
        raise PenstockError(
            f"{str(root)!r} is an editable installation, and {module!r}, which builds its wheel, is missing; "
            f"pip install {extra}"
        )
    with tempfile.TemporaryDirectory(prefix="penstock-wheel-") as folder:
        copy, target = Path(folder, root.name), Path(folder, "wheel")
        target.mkdir()
        copy.mkdir()
        huge = _link(root, copy)
        command = [sys.executable, "-P", "-c", _BACKEND, str(target), backend]
        done = subprocess.run(
            [*command, *(str(copy / place) for place in places)],
            cwd=copy,
            env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"},
            capture_output=True,
            text=True,
            timeout=_BUILD_S,
            check=False,
        )
        made = sorted(target.glob("*.whl"))
        if done.returncode or not made:
            said = (done.stderr.strip().splitlines() or ["no wheel was made"])[-1][:300]
            raise PenstockError(f"{backend} cannot build a wheel of {str(root)!r}: {said}")
        with zipfile.ZipFile(made[0]) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
            for name in [name for name, size in sizes.items() if not size]:
                sizes[name] = next((size for path, size in huge.items() if path.endswith(f"/{name}")), 0)
            _demand_size(sizes, str(root))
            return {name: archive.read(name) for name in sizes}


def _backend(root: Path) -> tuple[str, list[str]]:
    """The project's build backend, and the folders it may lie in."""
    try:
        system = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("build-system", {})
    except FileNotFoundError:
        system = {}
    except (OSError, ValueError) as error:
        raise PenstockError(f"cannot read {str(root / 'pyproject.toml')!r}: {error}") from None
    return system.get("build-backend", "setuptools.build_meta:__legacy__"), system.get("backend-path", [])


def _link(root: Path, copy: Path) -> dict[str, int]:
    """Fills `copy` with links to the files of `root`; those above LIMIT by path, with a leading slash."""
    huge: dict[str, int] = {}
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not _passing(Path(place, name))]
        here = copy / Path(place).relative_to(root)
        here.mkdir(exist_ok=True)
        for name in names:
            path = Path(place, name)
            size = path.stat().st_size if path.is_file() else 0
            if size > LIMIT:
                huge[f"/{path.relative_to(root)}"] = size
                (here / name).touch()
            else:
                (here / name).symlink_to(path.resolve())
        for name in [name for name in folders if Path(place, name).is_symlink()]:
            (here / name).symlink_to(Path(place, name).resolve())
    return huge


def _passing(folder: Path) -> bool:
    """Whether a folder is nobody's source: hidden, a cache, an environment."""
    name = folder.name
    return name.startswith(".") or name in ("__pycache__", "node_modules") or (folder / "pyvenv.cfg").exists()


def pack(files: Mapping[str, bytes], called: str) -> Wheel:
    """A wheel of `files` with a RECORD of its own: sorted, without times and owners."""
    described = next((name for name in sorted(files) if name.endswith(".dist-info/METADATA")), None)
    if described is None or described.count("/") != 1:
        raise PenstockError(f"{called} has no METADATA, so no wheel can be made; pip install it")
    folder = described.partition("/")[0]
    contents = {name: data for name, data in files.items() if name != f"{folder}/RECORD"}
    _demand_size({name: len(data) for name, data in contents.items()}, called)
    contents[f"{folder}/RECORD"] = _record(contents, f"{folder}/RECORD").encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, contents[name])
    sizes = {name: len(data) for name, data in contents.items()}
    return Wheel(folder.removesuffix(".dist-info"), written.getvalue(), _largest(sizes))


def _record(contents: Mapping[str, bytes], itself: str) -> str:
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    for name in sorted(contents):
        digest = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(contents[name])])
    rows.writerow([itself, "", ""])
    return lines.getvalue()


def _largest(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items(), key=lambda each: (-each[1], each[0]))[:3])


def _demand_size(sizes: Mapping[str, int], called: str) -> None:
    """PenstockError when the files together are larger than LIMIT."""
    total = sum(sizes.values())
    if total > LIMIT:
        named = ", ".join(f"{name} ({amount(size)})" for name, size in _largest(sizes))
        raise PenstockError(
            f"{called} is {amount(total)} and a cluster takes {amount(LIMIT)}; largest: {named}; keep data "
            f"out of the package folder, or install it on the cluster and pass --installed"
        )


def amount(size: int) -> str:
    """`1.5 MiB` of a number of bytes."""
    units: Iterator[str] = iter(("KiB", "MiB", "GiB", "TiB"))
    value, unit = float(size), "bytes"
    while value >= 1024 and (larger := next(units, None)):
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit != "bytes" else f"{size} bytes"
