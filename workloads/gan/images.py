"""The format `images`: a folder of picture files.

`images:FOLDER` reads `<class>/*` below `train/` and `test/`, or directly below the folder (then a seeded hash
chooses the test pictures). Without class folders the pictures have no classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from penstock.data.source import licence
from penstock.errors import DataError
from penstock.media import still
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.gan.config import Data

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
FEWEST = 2  # pictures of a class: one to learn from, one to be judged by
LOOKED_AT = 50  # pictures that tell whether there is colour
FILE_PIXELS = 80_000_000
Split = Literal["train", "test", ""]


class Images:
    """Sub-folders are classes; pictures of any size and of the usual formats."""

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        if not root.is_dir():
            raise DataError(
                f"{str(path)!r} is no folder; images:FOLDER holds pictures, or a folder per class"
            )
        found: list[tuple[Split, str, Path]] = []  # split, class ("" = none), file
        for split, top in split_folders(root):
            found += [(split, label, file) for label, file in pictures_of(top)]
        labels = sorted({label for _, label, _ in found if label})
        check(root, found, labels)
        items, counts = [], {"train": 0, "test": 0, "": 0}
        for split, label, file in found:
            where = {"file": str(file.resolve()), "label": label, "seed": counts[split]}
            items.append(Item(str(file.relative_to(root)), split, where=where))
            counts[split] += 1
        files = [file for *_, file in found]
        return Scan(items, Schema(tuple(labels), {"channels": colours(files)}), files, licence(root))

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item in items:
            try:
                raw = still(Path(item.where["file"]).read_bytes(), FILE_PIXELS)
            except OSError as error:
                yield Fault(error.strerror or "cannot be read")
                continue
            except ValueError as error:
                yield Fault(str(error))
                continue
            row: dict[str, object] = {"image": raw, "seed": int(item.where["seed"])}
            if schema.labels:
                if item.where["label"] not in schema.labels:
                    yield Fault("it is in no class folder; the model knows " + ", ".join(schema.labels))
                    continue
                row["label"] = schema.labels.index(item.where["label"])
            yield row


def split_folders(root: Path) -> list[tuple[Split, Path]]:
    """Where the pictures or class folders are, and the split of each place."""
    inside = {folder.name.lower(): folder for folder in subfolders(root)}
    if "train" not in inside:
        return [("", root)]
    if beside := sorted(set(inside) - {"train", "test"}):
        raise DataError(
            f"folder {inside[beside[0]].name!r} stands beside train/; pictures belong in train/ or test/"
        )
    if "test" not in inside:
        return [("", inside["train"])]
    return [("train", inside["train"]), ("test", inside["test"])]


def pictures_of(top: Path) -> list[tuple[str, Path]]:
    """(class, file) of every picture in a folder and its class folders."""
    folders = subfolders(top)
    loose = picture_files(top)
    if loose and folders:
        raise DataError(
            f"{top.name!r} holds pictures ({loose[0].name}) beside folders ({folders[0].name}); "
            "put every picture in a class folder, or none"
        )
    found = [("", file) for file in loose]
    for folder in folders:
        inside = picture_files(folder)
        if not inside:
            raise DataError(
                f"class folder {folder.name!r} holds no pictures ({', '.join(SUFFIXES)}); "
                "put some there or remove it"
            )
        found += [(folder.name, file) for file in inside]
    return found


def check(root: Path, found: Sequence[tuple[Split, str, Path]], labels: Sequence[str]) -> None:
    """DataError where there is too little to learn from."""
    for label in labels:
        of_it = [(split, file) for split, name, file in found if name == label]
        if len(of_it) < FEWEST:
            raise DataError(
                f"class folder {label!r} holds one picture, {of_it[0][1].name}; put {FEWEST} or more there"
            )
    if len(labels) == 1:
        raise DataError(
            f"{root.name!r} holds one class folder, {labels[0]!r}; for pictures without classes put them "
            "beside it and remove it"
        )
    if labels and any(not label for _, label, _ in found):
        raise DataError(f"{root.name!r} has class folders in one split only; use them in both or in neither")
    if len(found) < FEWEST:
        raise DataError(f"{root.name!r} holds {len(found)} pictures ({', '.join(SUFFIXES)}); add some")


def subfolders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] not in "._")


def picture_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.name[0] not in "._")


def colours(files: Sequence[Path]) -> int:
    """3 when any of a few pictures has colour, 1 when all are grey."""
    for file in files[:: max(1, len(files) // LOOKED_AT)]:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                picture.draft("RGB", (64, 64))
                small = picture.convert("RGB").resize((32, 32))
        except (OSError, SyntaxError, ValueError):
            continue  # a damaged picture is named when it is decoded
        red, green, blue = (band.tobytes() for band in small.split())
        if red != green or green != blue:
            return 3
    return 1
