"""Annotated boxes as files give them: checked against their picture, turned upright with it.

A box is left, top, right, bottom in pixels; right and bottom are edges, so a width is right - left.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from penstock.errors import DataError, nearest
from penstock.media import FILED, still
from penstock.workload import Fault, Item, Row

BEYOND = 2.0  # pixels by which a box may leave its picture: it is cut there; files round and count from 1
ORIENTATION = 0x0112  # the EXIF tag
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
ANY = "*"
"""The label of an ignored region that may hold anything."""


@dataclass(frozen=True)
class Annotation:
    """What a file says about one picture. `size`: (width, height) the boxes were drawn on, None where the
    file does not say. `ignore`: objects that are neither to be found nor wrong when they are."""

    boxes: Sequence[Sequence[float]]
    labels: Sequence[str]
    ignore: Sequence[bool]
    size: tuple[int, int] | None = None

    def where(self) -> dict[str, Any]:
        """As JSON values, for `Item.where`."""
        return {
            "boxes": [list(map(float, box)) for box in self.boxes],
            "labels": list(self.labels),
            "ignore": list(map(bool, self.ignore)),
            "size": list(self.size) if self.size else None,
        }

    @classmethod
    def of(cls, where: Mapping[str, Any]) -> Annotation:
        return cls(where["boxes"], where["labels"], where["ignore"], where["size"] and tuple(where["size"]))


Parse = Callable[[bytes], Annotation]
"""What a format makes of an annotation file; ValueError says what is wrong with it."""


def rows_of(items: Sequence[Item], parse: Parse, labels: Sequence[str]) -> Iterator[Row | Fault]:
    """Raw rows of items that have an annotation file each: `where` names `picture` and `note`."""
    for item in items:
        note = Path(item.where["note"])
        try:
            annotation = parse(note.read_bytes())
        except FileNotFoundError:
            yield Fault(f"there is no annotation {note.name}")
        except OSError as error:
            yield Fault(f"{note.name}: {error.strerror or 'cannot be read'}")
        except ValueError as error:
            yield Fault(f"{note.name}: {error}")
        else:
            yield row_of(Path(item.where["picture"]), annotation, labels)


def labels_of(notes: Iterable[Path], parse: Parse) -> list[str]:
    """The labels that annotation files name, sorted; damaged ones are named when they are read."""
    labels: set[str] = set()
    for note in notes:
        try:
            labels.update(parse(note.read_bytes()).labels)
        except (OSError, ValueError):
            continue
    return sorted(labels - {ANY})


def row_of(file: Path, annotation: Annotation, labels: Sequence[str]) -> Row | Fault:
    """The raw row of a picture file: `image` bytes (JPEG or PNG), `boxes` float32 [n, 4] in pixels of the
    upright picture, `labels` int64 [n] and `ignore` uint8 [n]; or what is wrong with it."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return Fault(f"there is no picture {file.name}")
    except OSError as error:
        return Fault(f"{file.name}: {error.strerror or 'cannot be read'}")
    try:
        raw, size, orientation = opened(raw)
        boxes, known, ignore = [], [], []
        for number, box in enumerate(annotation.boxes):
            name = annotation.labels[number]
            if name != ANY and name not in labels:
                raise ValueError(f"unknown label {name!r}{nearest(name, labels)}")
            placed = checked(box, f"box {number + 1} ({name})", annotation.size, size, orientation)
            # a region that may hold anything is ignored for every class
            for index in range(len(labels)) if name == ANY else [labels.index(name)]:
                boxes.append(placed)
                known.append(index)
                ignore.append(annotation.ignore[number])
    except ValueError as error:
        return Fault(str(error))
    return {
        "image": raw,
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array(known, np.int64),
        "ignore": np.array(ignore, np.uint8),
    }


def opened(raw: bytes) -> tuple[bytes, tuple[int, int], int]:
    """(bytes an endpoint takes, width and height as stored, EXIF orientation 1 to 8). ValueError when the
    picture cannot be read."""
    taken = still(raw)
    with Image.open(io.BytesIO(raw), formats=FILED) as picture:
        orientation = picture.getexif().get(ORIENTATION, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        # Pillow turns a TIFF by itself and already tells the upright size
        upright_told = picture.format == "TIFF" and orientation >= 5
        return taken, picture.size[::-1] if upright_told else picture.size, orientation


def checked(
    box: Sequence[float],
    name: str,
    drawn_on: tuple[int, int] | None,
    stored: tuple[int, int],
    orientation: int,
) -> list[float]:
    """The box in the upright picture, cut to it. ValueError on a box that has no area or lies outside
    by more than BEYOND, and on an annotation of another picture.

    `drawn_on`: the size the annotation tells; `stored`: the size of the file before its EXIF `orientation`
    is applied. Where the two sizes of a turned picture differ, `drawn_on` tells which one was annotated;
    else the upright one, which is what viewers show.
    """
    upright = stored[::-1] if orientation >= 5 else stored
    turned = orientation != 1 and drawn_on == stored != upright
    if drawn_on and not turned and drawn_on != upright:
        raise ValueError(
            f"annotated as {drawn_on[0]} x {drawn_on[1]} pixels,"
            f" but the picture has {upright[0]} x {upright[1]}"
        )
    width, height = stored if turned else upright
    left, top, right, bottom = map(float, box)
    shown = f"{name}: {left:g}, {top:g}, {right:g}, {bottom:g}"
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError(f"{shown} is not a box")
    if right <= left or bottom <= top:
        raise ValueError(f"{shown} has no area")
    least, most = min(left, top), max(right - width, bottom - height)
    cut = [max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))]
    if least < -BEYOND or most > BEYOND or cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise ValueError(f"{shown} lies outside the picture of {width} x {height} pixels")
    return list(upright_box(cut, orientation, *stored)) if turned else cut


def upright_box(box: Iterable[float], orientation: int, width: int, height: int) -> tuple[float, ...]:
    """A box of a stored picture of width x height, in the picture that its EXIF orientation makes upright."""
    left, top, right, bottom = box
    if orientation in (2, 3, 7, 8):  # the stored x runs against the axis it becomes
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)


def pictures_in(folder: Path) -> dict[str, Path]:
    """Name without suffix -> picture file of a folder; nothing where there is no folder."""
    if not folder.is_dir():
        return {}
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURES and f.name[0] != ".")
    return {file.stem: file for file in reversed(files)}


def listed_labels(root: Path) -> list[str]:
    """The lines of labels.txt, which fixes the order; nothing where there is none."""
    if not (root / "labels.txt").is_file():
        return []
    lines = (root / "labels.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    labels = [line.strip() for line in lines if line.strip()]
    if len(set(labels)) < len(labels):
        raise DataError("labels.txt holds a label twice; remove one")
    return labels
