"""The format `kitti`: pictures and text files as the KITTI object benchmark publishes them.

`kitti:FOLDER` holds `image_2/` and `label_2/`, or has them in `training/`. `testing/` is published without
labels and is not read: a seeded hash chooses the test pictures. `DontCare` regions are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from penstock.data.source import licence
from penstock.errors import DataError
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.detection.boxes import ANY, Annotation, labels_of, listed_labels, pictures_in, rows_of
from workloads.detection.config import Data

ANYTHING = "DontCare"
EDGES = slice(4, 8)  # after type, truncation, occlusion and angle


class Kitti:
    """KITTI: one text file a picture, one object a line."""

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        folder = root / "training" if (root / "training").is_dir() else root
        notes = folder / "label_2"
        if not notes.is_dir():
            raise DataError(
                f"{path!r} holds no label_2/; kitti:FOLDER holds image_2/ and label_2/, or both in training/"
            )
        pictures = pictures_in(folder / "image_2")
        written = {note.stem: note for note in sorted(notes.glob("*.txt"))}
        items, files = [], []
        for name in sorted({*pictures, *written}):
            picture = pictures.get(name, folder / "image_2" / f"{name}.png")
            note = written.get(name, notes / f"{name}.txt")
            items.append(Item(name, where={"picture": str(picture), "note": str(note)}))
            # what is missing is named when it is read
            files += [file for file in (picture, note) if file.is_file()]
        labels = listed_labels(root) or labels_of(written.values(), parse)
        if items and not labels:
            raise DataError(f"no file in {str(notes)!r} names an object; there is nothing to learn")
        if (root / "labels.txt").is_file():
            files.append(root / "labels.txt")
        return Scan(items, Schema(tuple(labels)), files, licence(root), exclusive=False)

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        return rows_of(items, parse, schema.labels)


def parse(raw: bytes) -> Annotation:
    """The boxes of a label file; ValueError says what is wrong with it."""
    boxes, labels = [], []
    for number, line in enumerate(raw.decode("utf-8").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            box = [float(word) for word in words[EDGES]]
        except ValueError:
            box = []
        if len(box) != 4:
            raise ValueError(f"line {number} is not a type, three numbers and the four edges of a box")
        boxes.append(box)
        labels.append(words[0])
    ignore = [label == ANYTHING for label in labels]
    return Annotation(boxes, [ANY if label == ANYTHING else label for label in labels], ignore)
