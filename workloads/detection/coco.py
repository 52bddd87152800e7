"""The format `coco`: one JSON file for many pictures, as the COCO data set is published.

`coco:FOLDER` holds `*train*.json` with `*test*.json` or `*val*.json`, in it or in `annotations/`;
`coco:FILE.json` is one file, of which a seeded hash chooses the test pictures. `iscrowd` regions are ignored.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from penstock.data.source import licence
from penstock.errors import DataError
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.detection.boxes import Annotation, row_of
from workloads.detection.config import Data

Split = Literal["train", "test", ""]


class Coco:
    """COCO: pictures, categories and boxes in one JSON file a split."""

    def scan(self, path: str, config: Data) -> Scan:
        place = Path(path).expanduser()
        root = place.parent if place.is_file() else place
        read = [(file, split, load(file)) for file, split in files_of(place)]
        categories = merged([(file, content) for file, _, content in read])
        labels = [categories[key] for key in sorted(categories)]
        if not labels:
            raise DataError(f"{path!r} has no categories; there is nothing to learn")
        often = Counter(
            str(PurePosixPath(image["file_name"]).with_suffix(""))
            for _, _, content in read
            for image in content["images"]
        )
        items: list[Item] = []
        files = [file for file, _, _ in read]
        for file, split, content in read:
            notes = notes_of(content, categories)
            folders = folders_of(root, file)
            for image in content["images"]:
                name = str(PurePosixPath(image["file_name"]).with_suffix(""))
                picture = found(image["file_name"], folders)
                where = {"picture": str(picture), **notes.get(image["id"], NOTHING), "size": size_of(image)}
                # the same name in two files: two pictures
                items.append(Item(f"{file.stem}/{name}" if often[name] > 1 else name, split, where=where))
                if picture.is_file():
                    files.append(picture)
        return Scan(items, Schema(tuple(labels)), files, licence(root), exclusive=False)

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item in items:
            if fault := item.where.get("fault"):
                yield Fault(fault)
            else:
                yield row_of(Path(item.where["picture"]), Annotation.of(item.where), schema.labels)


NOTHING: Mapping[str, Any] = {"boxes": [], "labels": [], "ignore": []}


def files_of(place: Path) -> list[tuple[Path, Split]]:
    """The JSON files and their splits; `val` is trained on where there is a `test`, since the platform cuts
    its own validation split, and is the test split where there is none."""
    if place.is_file():
        return [(place, "")]
    found = {split: chosen(place, split) for split in ("train", "val", "test")}
    train, between, test = found["train"], found["val"], found["test"]
    if train is None and test is None and between is None:
        raise DataError(
            f"{str(place)!r} holds no *train*.json, *val*.json or *test*.json; coco:FOLDER holds them beside"
            " the pictures or in annotations/, and coco:FILE.json is a single one"
        )
    files: list[tuple[Path, Split]] = []
    if train is not None:
        files.append((train, "train" if test or between else ""))
    if between is not None:
        files.append((between, "train" if test else "test"))
    if test is not None:
        files.append((test, "test"))
    return files


def chosen(root: Path, word: str) -> Path | None:
    """The one file of a split, None where there is none."""
    for folder in (root, root / "annotations"):
        files = [file for file in sorted(folder.glob("*.json")) if word in file.stem.lower()]
        # of COCO's own names, the one with the boxes of objects; image_info_… has none
        files = [file for file in files if file.stem.startswith("instances")] or files
        files = [file for file in files if not file.stem.startswith("image_info")]
        if len(files) > 1:
            raise DataError(
                f"{files[0].name} and {files[1].name} in {str(folder)!r} both say {word!r}; keep one,"
                " or name it: coco:FILE.json"
            )
        if files:
            return files[0]
    return None


def load(file: Path) -> dict[str, Any]:
    """The file's lists, checked as far as all pictures hang on them; DataError names file and fault."""
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} is not JSON: {str(error)[:80]}; repair it") from None
    except OSError as error:
        raise DataError(f"{file.name}: {error.strerror}") from None
    for key, wanted in (
        ("images", ("id", "file_name")),
        ("annotations", ("image_id",)),
        ("categories", ("id", "name")),
    ):
        entries = content.get(key) if isinstance(content, dict) else None
        if entries is None and key == "annotations" and isinstance(content, dict):
            entries = content[key] = []
        if not isinstance(entries, list):
            raise DataError(
                f"{file.name} has no list {key!r}; a COCO file has images, annotations and categories"
            )
        for entry in entries:
            if not isinstance(entry, dict) or any(name not in entry for name in wanted):
                raise DataError(
                    f"{file.name}: an entry of {key!r} has no {' or '.join(map(repr, wanted))}; add it"
                )
    return dict(content)


def merged(read: Iterable[tuple[Path, Mapping[str, Any]]]) -> dict[int, str]:
    """Category id -> name over all files; DataError where two of them disagree."""
    categories: dict[int, str] = {}
    for file, content in read:
        for category in content["categories"]:
            key, name = category["id"], str(category["name"])
            if not isinstance(key, int) or isinstance(key, bool):
                raise DataError(f"{file.name}: category {name!r} has id {key!r}; a whole number is needed")
            if categories.setdefault(key, name) != name:
                raise DataError(
                    f"{file.name}: category {key} is {name!r} here and {categories[key]!r} elsewhere"
                )
    if len(set(categories.values())) < len(categories):
        name = Counter(categories.values()).most_common(1)[0][0]
        raise DataError(f"category {name!r} has two ids; give it one")
    return categories


def notes_of(content: Mapping[str, Any], categories: Mapping[int, str]) -> dict[Any, dict[str, Any]]:
    """Picture id -> its boxes, labels and which to ignore, or `fault` where one of them cannot be used."""
    notes: dict[Any, dict[str, Any]] = {}
    for entry in content["annotations"]:
        note = notes.setdefault(entry["image_id"], {"boxes": [], "labels": [], "ignore": []})
        number = f"annotation {entry.get('id', len(note['boxes']) + 1)}"
        box, category = entry.get("bbox"), entry.get("category_id")
        if category not in categories:
            note.setdefault("fault", f"{number} has category {category!r}, which is not in the categories")
        elif not is_box(box):
            note.setdefault("fault", f"{number} has bbox {str(box)[:40]}; four numbers are needed")
        else:
            left, top, width, height = map(float, box)
            note["boxes"].append([left, top, left + width, top + height])
            note["labels"].append(categories[category])
            note["ignore"].append(bool(entry.get("iscrowd", 0)))
    return notes


def is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(edge) in (int, float) for edge in box)


def size_of(image: Mapping[str, Any]) -> list[int] | None:
    size = [image.get("width"), image.get("height")]
    return size if all(type(length) is int and length > 0 for length in size) else None  # type: ignore[return-value]


def folders_of(root: Path, file: Path) -> list[Path]:
    """Where pictures may be: beside the file or in the folders that published sets use."""
    words = [word for word in file.stem.split("_") if word]  # instances_train2017 -> train2017/
    names = ["", "images", "JPEGImages", *words, *(f"images/{word}" for word in words)]
    bases = [root, *([root.parent] if root.name == "annotations" else [])]
    return [base / name for base in bases for name in names if (base / name).is_dir()]


def found(name: str, folders: Sequence[Path]) -> Path:
    """The picture in the first folder that has it, else where it is missed. No name leads out of them."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    inside = Path(*parts) if parts else Path("unnamed")
    return next((f / inside for f in folders if (f / inside).is_file()), folders[0] / inside)
