"""ImageFolder to rows, and any picture to the patch that the network sees.

`imagefolder:FOLDER` reads `<class>/*` below `train/` and `test/`, or directly below the folder (then a
seeded hash chooses the test pictures). `val/` beside `train/` and `test/` is trained on, since the platform
cuts its own validation split; without a `test/` it is the test split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from PIL import Image

from penstock.data.source import licence
from penstock.errors import DataError
from penstock.media import decode_image
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.pathology.config import Data

SUFFIXES = (".jpg", ".jpeg", ".png")
VALIDATION = ("val", "valid", "validation")
Split = Literal["train", "test", ""]


class ImageFolder:
    """The format `imagefolder`: one folder per class, JPEG or PNG inside."""

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        if not root.is_dir():
            raise DataError(f"no folder {path!r}; imagefolder:FOLDER holds one folder of pictures per class")
        splits = split_folders(root)
        folders = [(split, folder) for top, split in splits for folder in subfolders(top)]
        labels = sorted({folder.name for _, folder in folders})
        if not labels:
            raise DataError(f"{path!r} holds no folders; each class is a folder of pictures")
        items, files = [], []
        for split, folder in folders:
            pictures = sorted(
                f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.name[0] != "."
            )
            if not pictures:
                raise DataError(
                    f"class {str(folder.relative_to(root))!r} is empty; put .jpg or .png files there"
                    " or remove it"
                )
            files += pictures
            for file in pictures:
                where = {"file": str(file.resolve()), "label": folder.name}
                items.append(Item(str(file.relative_to(root)), split, unit(file.name, config), where))
        schema = Schema(tuple(labels), {"patch": usual_side(files)})
        return Scan(items, schema, files, licence(root))

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item in items:
            label = schema.labels.index(item.where["label"])  # of a model's schema, when its data is read
            try:
                yield {"image": Path(item.where["file"]).read_bytes(), "label": label}
            except OSError as error:
                yield Fault(error.strerror or "cannot be read")


def subfolders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] not in "._")


def split_folders(root: Path) -> list[tuple[Path, Split]]:
    """Where the class folders are, and the split of each place."""
    found = {folder.name.lower(): folder for folder in subfolders(root)}
    if "train" not in found and "test" not in found:
        return [(root, "")]
    if unknown := sorted(set(found) - {"train", "test", *VALIDATION}):
        raise DataError(
            f"folder {found[unknown[0]].name!r} stands beside train/ or test/; classes belong inside them"
        )
    whole = "test" in found or any(name in found for name in VALIDATION)
    uses: dict[str, Split] = {"train": "train" if whole else "", "test": "test"}
    between: Split = "train" if "test" in found else "test"
    return [(folder, uses.get(name, between)) for name, folder in found.items()]


def unit(name: str, config: Data) -> str:
    """The slide or patient that a file name tells; "" where it does not."""
    match = re.search(config.unit, name) if config.unit else None
    return (match[1] or "") if match else ""


def usual_side(files: Sequence[Path]) -> int:
    """The side of a training patch in its own pixels: of a larger picture, tiles of this size are seen."""
    sides = []
    for file in files[:: max(1, len(files) // 25)]:
        try:
            with Image.open(file, formats=("JPEG", "PNG")) as picture:
                sides.append(max(picture.size))
        except (OSError, SyntaxError, ValueError):
            continue  # a damaged picture is named when it is decoded
    return round(median(sides)) if sides else 224


# ---------------------------------------------------------------- a picture -> what the network sees


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row: `patch` uint8 [3, size, size], RGB, and `label`."""
    return {"patch": patch(decode_image(row["image"]), config.size), "label": row["label"]}


def patch(picture: Image.Image, size: int) -> np.ndarray[Any, Any]:
    """The whole picture scaled to uint8 [3, size, size]."""
    scaled = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(scaled).transpose(2, 0, 1))
