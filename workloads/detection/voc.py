"""The format `voc`: pictures and XML as the Pascal VOC challenge publishes them.

`voc:FOLDER` holds `Annotations/*.xml`, `JPEGImages/` and `ImageSets/Main/{train,val,trainval,test}.txt`.
Without lists every annotation is an item and a seeded hash chooses the test pictures. Box edges are taken
as they stand in the file. `difficult` objects are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from penstock.data.source import licence
from penstock.errors import DataError
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.detection.boxes import Annotation, labels_of, listed_labels, pictures_in, rows_of
from workloads.detection.config import Data

Split = Literal["train", "test", ""]
LISTS = ("train", "val", "trainval", "test")
EDGES = ("xmin", "ymin", "xmax", "ymax")


class Voc:
    """Pascal VOC: one XML file a picture."""

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        notes = root / "Annotations"
        if not notes.is_dir():
            raise DataError(
                f"{path!r} holds no Annotations/; voc:FOLDER holds Annotations/, JPEGImages/"
                " and ImageSets/Main/"
            )
        splits = splits_of(root)
        if not splits:
            raise DataError(f"{path!r} lists no pictures and Annotations/ holds no .xml files")
        pictures = pictures_in(root / "JPEGImages")
        items, files = [], []
        for name, split in splits.items():
            picture, note = pictures.get(name, root / "JPEGImages" / f"{name}.jpg"), notes / f"{name}.xml"
            items.append(Item(name, split, where={"picture": str(picture), "note": str(note)}))
            # what is missing is named when it is read
            files += [file for file in (picture, note) if file.is_file()]
        labels = listed_labels(root) or labels_of((file for file in files if file.suffix == ".xml"), parse)
        if not labels:
            raise DataError(f"no annotation in {str(notes)!r} names an object; there is nothing to learn")
        if (root / "labels.txt").is_file():
            files.append(root / "labels.txt")
        return Scan(items, Schema(tuple(labels)), files, licence(root), exclusive=False)

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        return rows_of(items, parse, schema.labels)


def splits_of(root: Path) -> dict[str, Split]:
    """Picture name -> split, as the lists say; `val` is trained on where there is a `test`, since the
    platform cuts its own validation split, and is the test split where there is none."""
    folder = root / "ImageSets" / "Main"
    lists = {name: names_in(folder / f"{name}.txt") for name in LISTS}
    test = lists["test"] or lists["val"]
    train = {*lists["train"], *lists["trainval"], *lists["val"]}
    if not lists["test"]:
        train -= set(test)
    elif both := train & set(test):
        raise DataError(f"{min(both)!r} is in test.txt and in a list to train on; remove it from one")
    if not train and not test:
        return {note.stem: "" for note in sorted((root / "Annotations").glob("*.xml"))}
    splits: dict[str, Split] = dict.fromkeys(sorted(train), "train" if test else "")
    return splits | dict.fromkeys(test, "test")


def names_in(file: Path) -> list[str]:
    """The first word of each line; nothing where there is no file."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


class NoEntities(ElementTree.TreeBuilder):
    """Refuses a DOCTYPE: entities declared there can swell to any size or name other files."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which annotations do not need; remove it")


def parse(raw: bytes) -> Annotation:
    """The boxes of an XML file; ValueError says what is wrong with it."""
    try:
        root = ElementTree.fromstring(raw, ElementTree.XMLParser(target=NoEntities()))
    except ElementTree.ParseError as error:
        raise ValueError(f"not well-formed XML: {error}") from None
    except LookupError:  # an encoding nobody knows
        raise ValueError("not well-formed XML: unknown encoding") from None
    boxes, labels, ignore = [], [], []
    for number, thing in enumerate(root.findall("object")):
        label = (thing.findtext("name") or "").strip()
        if not label:
            raise ValueError(f"object {number + 1} has no name")
        box = thing.find("bndbox")
        boxes.append([number_in(box, edge, f"object {number + 1} ({label})") for edge in EDGES])
        labels.append(label)
        ignore.append((thing.findtext("difficult") or "0").strip() == "1")
    return Annotation(boxes, labels, ignore, size_of(root))


def number_in(box: Any, edge: str, name: str) -> float:
    text = box.findtext(edge) if box is not None else None
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"{name} has {edge} = {text!r}, which is no number") from None


def size_of(root: Any) -> tuple[int, int] | None:
    """Width and height that the annotation tells; None where it does not (some tools write 0)."""
    try:
        size = (int(float(root.findtext("size/width"))), int(float(root.findtext("size/height"))))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None
