"""Detection: what it reads, what it refuses, what the drawn road looks like."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import DataError
from penstock.media import decode_image
from penstock.store import Store
from penstock.workload import Fault, Schema
from workloads.detection import workload
from workloads.detection.boxes import ORIENTATION, Annotation, checked, row_of, upright_box
from workloads.detection.coco import Coco
from workloads.detection.config import Data
from workloads.detection.data import GREY, decode, letterbox
from workloads.detection.kitti import Kitti
from workloads.detection.voc import Voc, parse

SMALL = Data(width=96, height=64)
Thing = tuple[str, tuple[float, float, float, float]]
CAR: Thing = ("car", (4, 6, 30, 28))
LAMP: Thing = ("lamp", (33, 2, 38, 14))


def picture(number: int = 0, size: tuple[int, int] = (48, 32), form: str = "JPEG", **options: Any) -> bytes:
    """A picture of noise; every number gives another one."""
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def xml(things: Sequence[Thing], size: tuple[int, int] = (48, 32), difficult: int = 0) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        + "".join(
            f"<{edge}>{value}</{edge}>"
            for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for name, box in things
    )
    return (
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )


SCENES: Mapping[str, Sequence[Thing]] = {
    **{f"a{n}": [CAR, LAMP] if n % 2 else [LAMP] for n in range(8)},
    "empty": [],
    **{f"t{n}": [CAR] for n in range(3)},
}
SPLITS = {"train": [name for name in SCENES if name[0] != "t"], "test": ["t0", "t1", "t2"]}


def voc(root: Path, lists: Mapping[str, Sequence[str]] = SPLITS, labels: str = "lamp\ncar\n") -> Path:
    """The scenes as Pascal VOC."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, (name, things) in enumerate(SCENES.items()):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(picture(number))
        (root / "Annotations" / f"{name}.xml").write_text(xml(things))
    for split, names in lists.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    if labels:
        (root / "labels.txt").write_text(labels)
    return root


def coco_file(names: Sequence[str]) -> dict[str, Any]:
    ids = {"lamp": 7, "car": 90}
    return {
        "images": [
            {"id": f"x{n}", "file_name": f"{name}.jpg", "width": 48, "height": 32}
            for n, name in enumerate(names)
        ],
        "annotations": [
            {"id": n, "image_id": f"x{n}", "category_id": ids[label], "bbox": [a, b, c - a, d - b]}
            for n, name in enumerate(names)
            for label, (a, b, c, d) in SCENES[name]
        ],
        "categories": [{"id": key, "name": name} for name, key in reversed(ids.items())],
    }


def coco(root: Path, beside: str = "images") -> Path:
    """The same scenes as COCO."""
    (root / beside).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(SCENES):
        (root / beside / f"{name}.jpg").write_bytes(picture(number))
    for split, names in SPLITS.items():
        (root / f"boxes_{split}.json").write_text(json.dumps(coco_file(names)))
    return root


def kitti(root: Path) -> Path:
    """The same scenes as KITTI, with a region that nobody cares for."""
    for folder in ("training/image_2", "training/label_2", "testing/image_2"):
        (root / folder).mkdir(parents=True)
    (root / "testing/image_2/000000.png").write_bytes(picture(9, form="PNG"))
    for number, (name, things) in enumerate(SCENES.items()):
        (root / "training/image_2" / f"{name}.png").write_bytes(picture(number, form="PNG"))
        lines = [f"{label} 0.00 0 -1.57 {a} {b} {c} {d} 1 1 1 0 0 0 0" for label, (a, b, c, d) in things]
        lines += ["DontCare -1 -1 -10 0 0 9 9 -1 -1 -1 -1000 -1000 -1000 -10"] if things else []
        (root / "training/label_2" / f"{name}.txt").write_text("\n".join(lines))
    return root


def rows_of(source: Any, path: Path) -> dict[str, Any]:
    scan = source.scan(str(path), SMALL)
    rows = source.read(scan.items, SMALL, scan.schema)
    return {item.name: row for item, row in zip(scan.items, rows, strict=True)}


# ---------------------------------------------------------------- formats


def test_voc_and_coco_of_the_same_scenes_are_the_same_data_set(tmp_path: Path, store: Store) -> None:
    made = [
        prepare(workload, source, SMALL, store, mapper=in_process)
        for source in (f"voc:{voc(tmp_path / 'v')}", f"coco:{coco(tmp_path / 'c')}")
    ]
    assert made[0].id == made[1].id
    assert made[0].schema.labels == ("lamp", "car")
    assert made[0].counts["test"] == 3 and made[0].counts["train"] + made[0].counts["validation"] == 9
    row = made[0].test.row(0)
    assert row["boxes"].tolist() == [[4, 6, 30, 28]] and row["labels"].tolist() == [1]


def test_kitti_is_read_and_what_nobody_cares_for_is_ignored_for_every_label(tmp_path: Path) -> None:
    scan = Kitti().scan(str(kitti(tmp_path)), SMALL)
    assert scan.schema.labels == ("car", "lamp") and {item.split for item in scan.items} == {""}
    rows = rows_of(Kitti(), tmp_path)
    assert rows["a1"]["labels"].tolist() == [0, 1, 0, 1] and rows["a1"]["ignore"].tolist() == [0, 0, 1, 1]
    assert rows["empty"]["boxes"].shape == (0, 4)
    assert decode(rows["a1"], SMALL, scan.schema)["labels"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        ({}, {"a0": "", "t0": ""}),
        ({"train": ["a0"]}, {"a0": ""}),
        ({"train": ["a0"], "test": ["t0"]}, {"a0": "train", "t0": "test"}),
        ({"train": ["a0"], "val": ["a1"]}, {"a0": "train", "a1": "test"}),
        ({"trainval": ["a0", "a1"], "val": ["a1"], "train": ["a0"]}, {"a0": "train", "a1": "test"}),
        ({"train": ["a0"], "val": ["a1"], "test": ["t0"]}, {"a0": "train", "a1": "train", "t0": "test"}),
    ],
)
def test_the_lists_of_voc_are_the_splits(lists: Any, splits: dict[str, str], tmp_path: Path) -> None:
    scan = Voc().scan(str(voc(tmp_path, lists, labels="")), SMALL)
    found = {item.name: item.split for item in scan.items}
    assert splits.items() <= found.items() and len(found) == (len(SCENES) if not lists else len(splits))
    assert set(scan.schema.labels) <= {"car", "lamp"} and list(scan.schema.labels) == sorted(
        scan.schema.labels
    )


@pytest.mark.parametrize("beside", [".", "images", "JPEGImages", "train", "images/test"])
def test_pictures_of_coco_are_found_where_published_sets_have_them(beside: str, tmp_path: Path) -> None:
    coco(tmp_path, beside)
    scan = Coco().scan(str(tmp_path), SMALL)
    wanted = [item for item in scan.items if beside not in ("train", "images/test") or item.split in beside]
    assert wanted and all(Path(item.where["picture"]).is_file() for item in wanted)


def test_one_file_of_coco_has_no_split_and_crowds_are_ignored(tmp_path: Path) -> None:
    content = coco_file(["a1"])
    content["annotations"][0]["iscrowd"] = 1
    (coco(tmp_path) / "some.json").write_text(json.dumps(content))
    scan = Coco().scan(str(tmp_path / "some.json"), SMALL)
    (row,) = Coco().read(scan.items, SMALL, scan.schema)
    assert scan.items[0].split == "" and row["ignore"].tolist() == [1, 0]  # type: ignore[index]


def test_difficult_objects_of_voc_are_ignored() -> None:
    assert list(parse(xml([CAR], difficult=1).encode()).ignore) == [True]


def test_other_data_is_read_by_the_labels_of_the_model(tmp_path: Path) -> None:
    scan = Voc().scan(str(voc(tmp_path)), SMALL)
    item = next(item for item in scan.items if item.name == "t0")
    (row,) = Voc().read([item], SMALL, Schema(("bus", "lamp", "car")))
    assert row["labels"].tolist() == [2]  # type: ignore[index]


@pytest.mark.real_data
def test_carla_is_the_same_data_set_from_voc_and_coco(real_data: Path, store: Store) -> None:
    made = [
        prepare(workload, f"{form}:{real_data}/detection/carla-voc", Data(), store, mapper=in_process)
        for form in ("voc", "coco")
    ]
    assert made[0].id == made[1].id and made[0].card["licence"].startswith("MIT")
    assert made[0].schema.labels == ("vehicle", "bike", "motobike", "traffic_light", "traffic_sign")
    assert made[0].counts["test"] == 60 and made[0].counts["train"] + made[0].counts["validation"] == 160
    assert made[0].card["classes"]["test"]["traffic_light"] == 432
    assert made[0].train.row(0)["image"].shape == (3, 384, 640)


# ---------------------------------------------------------------- what is refused


def put(name: str, text: str) -> Callable[[Path], Any]:
    return lambda root: (root / "Annotations" / f"{name}.xml").write_text(text)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "outside": (
        put("a1", xml([("car", (40, 5, 51, 20))])),
        "box 1 (car): 40, 5, 51, 20 lies outside the picture of 48 x 32 pixels",
    ),
    "far outside": (put("a1", xml([("car", (60, 5, 70, 20))])), "lies outside the picture"),
    "no area": (put("a1", xml([LAMP, ("car", (9, 5, 9, 20))])), "box 2 (car): 9, 5, 9, 20 has no area"),
    "turned inside out": (put("a1", xml([("car", (9, 20, 19, 5))])), "has no area"),
    "no number": (
        put("a1", xml([CAR]).replace(">4<", ">x<")),
        "object 1 (car) has xmin = 'x', which is no number",
    ),
    "not finite": (put("a1", xml([("car", (float("nan"), 5, 9, 20))])), "is not a box"),
    "unknown label": (put("a1", xml([("cra", (9, 5, 19, 20))])), "unknown label 'cra'; did you mean car?"),
    "another picture": (
        put("a1", xml([CAR], (64, 32))),
        "annotated as 64 x 32 pixels, but the picture has 48 x 32",
    ),
    "damaged": (put("a1", "<annotation><object>"), "a1.xml: not well-formed XML: no element found"),
    "entities": (put("a1", BOMB), "a1.xml: it has a DOCTYPE"),
    "no annotation": (lambda root: (root / "Annotations/a1.xml").unlink(), "there is no annotation a1.xml"),
    "no picture": (lambda root: (root / "JPEGImages/a1.jpg").unlink(), "there is no picture a1.jpg"),
    "no JPEG": (
        lambda root: (root / "JPEGImages/a1.jpg").write_bytes(b"hello"),
        "the picture is damaged",
    ),
    "cut off": (
        lambda root: (root / "JPEGImages/a1.jpg").write_bytes(picture(1)[:900]),
        "the picture is truncated",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named_in_one_line_and_can_be_skipped(
    name: str, tmp_path: Path, store: Store
) -> None:
    spoil, said = BAD[name]
    root = voc(tmp_path / "raw")
    spoil(root)
    with pytest.raises(DataError, match=re.escape(said)) as error:
        prepare(workload, f"voc:{root}", SMALL, store, mapper=in_process)
    assert str(error.value).startswith("a1: ") and "\n" not in str(error.value)
    dataset = prepare(workload, f"voc:{root}", SMALL, store, skip_bad=1, mapper=in_process)
    assert [bad["item"] for bad in dataset.card["skipped"]] == ["a1"] and sum(dataset.counts.values()) == 11


def test_a_doctype_in_any_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="DOCTYPE"):
        parse(BOMB.encode("utf-16"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"category_id": 8}, "annotation 1 has category 8, which is not in the categories"),
        ({"bbox": [1, 2, 3]}, "annotation 1 has bbox [1, 2, 3]; four numbers are needed"),
        ({"bbox": [1, 2, 0, 5]}, "has no area"),
        ({"bbox": [44, 2, 9, 5]}, "lies outside the picture"),
    ],
)
def test_a_box_of_coco_that_cannot_be_used_spoils_its_picture_only(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    content = coco_file(SPLITS["train"])
    content["annotations"][1] |= change
    (coco(tmp_path) / "boxes_train.json").write_text(json.dumps(content))
    faults = {name: row for name, row in rows_of(Coco(), tmp_path).items() if isinstance(row, Fault)}
    assert list(faults) == ["a1"] and said in faults["a1"].why


TWICE = {"id": 3, "name": "car"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: "{", "boxes_train.json is not JSON"),
        (lambda c: "[]", "boxes_train.json has no list 'images'"),
        (lambda c: json.dumps(c | {"images": [{"id": 1}]}), "an entry of 'images' has no 'id' or"),
        (lambda c: json.dumps(c | {"categories": [{"id": "7", "name": "car"}]}), "category 'car' has id '7'"),
        (lambda c: json.dumps(c | {"categories": [{"id": 7, "name": "car"}]}), "category 7 is"),
        (lambda c: json.dumps(c | {"categories": c["categories"] + [TWICE]}), "'car' has two ids"),
    ],
)
def test_a_damaged_file_of_coco_is_named(spoil: Any, said: str, tmp_path: Path) -> None:
    (coco(tmp_path) / "boxes_train.json").write_text(spoil(coco_file(SPLITS["train"])))
    with pytest.raises(DataError, match=re.escape(said)):
        Coco().scan(str(tmp_path), SMALL)


@pytest.mark.parametrize("source", [Voc(), Coco(), Kitti()])
def test_a_folder_of_something_else_is_told_what_belongs_there(source: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(voc|coco|kitti):FOLDER holds"):
        source.scan(str(tmp_path), SMALL)


def test_a_name_in_two_lists_and_a_cut_off_line_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'a0' is in test\.txt and in a list to train on"):
        Voc().scan(str(voc(tmp_path / "v", {"train": ["a0"], "test": ["a0"]})), SMALL)
    (kitti(tmp_path / "k") / "training/label_2/a0.txt").write_text("car 0 0 0 1 2")
    assert rows_of(Kitti(), tmp_path / "k")["a0"] == Fault(
        "a0.txt: line 1 is not a type, three numbers and the four edges of a box"
    )


def test_a_file_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(picture())
    content = coco_file(["a1"])
    content["images"][0]["file_name"] = "../secret.jpg"
    (coco(tmp_path / "c") / "boxes_train.json").write_text(json.dumps(content))
    assert rows_of(Coco(), tmp_path / "c")["../secret"] == Fault("there is no picture secret.jpg")


# ---------------------------------------------------------------- what is taken as it comes


def saved(form: str, mode: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 60_000 if mode == "I;16" else 256, (32, 48))
    if mode == "I;16":
        Image.fromarray(pixels.astype(np.uint16)).save(file, form)
    else:
        Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(file, form)
    return file.getvalue()


def moving(form: str) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (48, 32), colour) for colour in ("red", "blue")]
    frames[0].save(file, form, save_all=True, append_images=frames[1:], lossless=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        *(saved("JPEG", mode) for mode in ("CMYK", "L")),
        *(saved("PNG", mode) for mode in ("I;16", "P", "RGBA")),
        *(saved(form, "RGB") for form in ("BMP", "TIFF", "WEBP")),
        *(moving(form) for form in ("GIF", "PNG", "WEBP")),
    ],
)
def test_any_kind_of_picture_becomes_one_that_a_client_could_send(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "some.gif").write_bytes(raw)
    row = row_of(tmp_path / "some.gif", Annotation([CAR[1]], ["car"], [False], (48, 32)), ["car"])
    assert not isinstance(row, Fault), row
    upright = decode_image(row["image"])
    assert upright.size == (48, 32) and Image.open(io.BytesIO(row["image"])).format in ("JPEG", "PNG")
    if raw[:3] == b"GIF":
        assert upright.getpixel((9, 9)) == (254, 0, 0) or upright.getpixel((9, 9)) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_a_picture_that_is_stored_turned(orientation: int) -> None:
    stored = Image.new("L", (48, 32))
    stored.paste(255, (4, 6, 30, 20))
    stored.getexif()[ORIENTATION] = orientation
    turned = np.asarray(ImageOps.exif_transpose(stored))
    across, down = np.flatnonzero(turned.any(0)), np.flatnonzero(turned.any(1))
    wanted = (across[0], down[0], across[-1] + 1, down[-1] + 1)
    assert upright_box((4, 6, 30, 20), orientation, 48, 32) == wanted


@pytest.mark.parametrize(
    ("size", "box"), [((48, 32), [2, 4, 26, 30]), ((32, 48), [4, 6, 30, 28]), (None, [4, 6, 30, 28])]
)
def test_the_size_of_an_annotation_tells_whether_it_is_of_the_turned_picture(
    size: Any, box: list[int], tmp_path: Path
) -> None:
    turn = Image.Exif()
    turn[ORIENTATION] = 6
    (tmp_path / "some.jpg").write_bytes(picture(exif=turn))
    row = row_of(tmp_path / "some.jpg", Annotation([[4, 6, 30, 28]], ["car"], [False], size), ["car"])
    assert not isinstance(row, Fault) and decode_image(row["image"]).size == (32, 48)
    assert row["boxes"].tolist() == ([[4, 4, 26, 30]] if size == (48, 32) else [box])


def test_a_box_a_little_beyond_the_border_is_cut_there() -> None:
    assert checked([-1, 5, 49.5, 20], "box", None, (48, 32), 1) == [0, 5, 48, 20]


def test_a_picture_keeps_its_aspect_on_the_canvas_and_its_boxes_follow() -> None:
    placed = letterbox(Image.new("RGB", (48, 16), "white"), 96, 64)
    assert placed.pixels.shape == (3, 64, 96) and (placed.across, placed.down) == (2, 2)
    assert (placed.pixels[:, :32] == 255).all() and (placed.pixels[:, 32:] == GREY).all()
    row = {
        "image": picture(size=(48, 64)),
        "boxes": np.array([[0, 0, 48, 64], [1, 2, 3, 4]], np.float32),
        "labels": np.array([1, 0]),
        "ignore": np.array([0, 1], np.uint8),
    }
    made = decode(row, SMALL, Schema(("a", "b")))
    assert made["boxes"].tolist() == [[0, 0, 48, 64]] and made["labels"].tolist() == [1]
    assert made["boxes"].dtype == np.float32 and made["image"].dtype == np.uint8
