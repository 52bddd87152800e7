"""A folder to publish, and what came of it."""

from __future__ import annotations

from pathlib import Path

from penstock.store import publish_folder

FILES = {"weights.bin": b"w" * 5_000, "card.json": b"{}", "assets/map.json": b"[1]"}


def publish(parent: Path, name: str, files: dict[str, bytes] = FILES) -> None:
    with publish_folder(parent, name) as folder:
        for file, data in files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(data)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
