"""`penstock new NAME`: a small workload that runs, as a package of its own; also the tutorial."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from penstock import catalog
from penstock.errors import PenstockError
from penstock.workload import NAME

FILES = {
    "pyproject.toml": "pyproject.txt",
    "{module}/__init__.py": "__init__.txt",
    "{module}/parts.py": "parts.txt",
}
"""File of the package -> the template it is made from."""


def new(name: str, into: str | Path = ".") -> Path:
    """Writes the folder `into/name` and gives its path. PenstockError when the name cannot be one, is
    taken, or the folder exists."""
    if not NAME.fullmatch(name) or not re.fullmatch(r"[a-z0-9_-]+", name):
        raise PenstockError(f"workload name {name!r}: write up to 64 of a-z 0-9 _ - such as my-flowers")
    if name in catalog.installed():
        raise PenstockError(f"a workload {name!r} is installed already; choose another name")
    folder = Path(into).expanduser().absolute() / name
    if folder.exists():
        raise PenstockError(f"{folder} exists already; choose another name, or --into another folder")
    for path, text in contents(name).items():
        place = folder / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        except OSError as error:
            raise PenstockError(
                f"cannot write {place}: {error.strerror}; choose a folder with --into"
            ) from error
    return folder


def contents(name: str) -> dict[str, str]:
    """Path in the package -> its text."""
    module = f"penstock_{name.replace('-', '_')}"
    here = files("penstock.templates")
    return {
        path.format(module=module): here.joinpath(template)
        .read_text(encoding="utf-8")
        .replace("{{name}}", name)
        .replace("{{module}}", module)
        for path, template in FILES.items()
    }
