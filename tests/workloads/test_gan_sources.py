"""What the GAN reads: idx files, folders of pictures, drawn art, and what it says of files it cannot use."""

from __future__ import annotations

import gzip
import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.config import build as build_config
from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import ConfigError, DataError
from penstock.media import decode_image
from penstock.store import Store
from penstock.workload import Fault, Schema
from workloads.gan import judge, workload
from workloads.gan.config import Config, Data
from workloads.gan.data import decode, grid, square
from workloads.gan.idx import Idx
from workloads.gan.images import Images
from workloads.gan.synthetic import LABELS, Synthetic, art, write


@pytest.fixture(autouse=True)
def quick_judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A judge that saw little: these tests are about what is read."""
    monkeypatch.setattr(judge, "LEAST_SEEN", 64)
    monkeypatch.setattr(judge, "PASSES", 1)
    yield


def read(source: str, store: Store, data: Data | None = None, skip_bad: int = 0) -> Dataset:
    return prepare(workload, source, data or Data(), store, skip_bad=skip_bad, mapper=in_process)


def idx_bytes(values: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def idx_folder(root: Path, train: int = 20, test: int = 10, zipped: bool = True) -> Path:
    """Noise with labels 0, 1, 0, 1, …; picture i has the value i in its first pixel."""
    root.mkdir(parents=True, exist_ok=True)
    for use, count in (("train", train), ("t10k", test)):
        pictures = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        pictures[:, 0, 0] = np.arange(count)
        parts = {
            f"{use}-images-idx3-ubyte": idx_bytes(pictures),
            f"{use}-labels-idx1-ubyte": idx_bytes((np.arange(count) % 2).astype(np.uint8)),
        }
        for name, raw in parts.items():
            (root / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(raw, 1) if zipped else raw)
    return root


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (40, 32)) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def picture_folder(root: Path, *classes: str, pictures: int = 8) -> Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for n in range(pictures):
            picture(100 * number + n).save(root / name / f"{n}.png")
    return root


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.size=30"], "data.size = 30: one of 28, 32, 40, 48, 56, 64, 80, 96, 112, 128 is needed"),
        (["model.width=20"], "model.width = 20, model.widest = 96: multiples of 8 are needed"),
        (["model.kind=dcgan", "model.r1=0.0", "data.size=64"], "model.kind = 'dcgan' makes 28 pixels"),
        (["model.kind=dcgan"], "model.r1 = 0.5: not with model.kind = 'dcgan', which has dropout"),
        (["model.r1_share=0.0"], "model.r1_share = 0.0: 0 or more, and above 0 to 1"),
        (["augment.cutout=1.5"], "augment.cutout = 1.5: 0 to 1 are possible"),
    ],
)
def test_a_setting_that_cannot_be_is_named(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        build_config(Config, None, None, words)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- idx


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read_as_they_are_published(zipped: bool, tmp_path: Path, store: Store) -> None:
    dataset = read(f"idx:{idx_folder(tmp_path / 'raw', zipped=zipped)}", store)
    assert dataset.schema.labels == ("0", "1") and dataset.schema.fields["channels"] == 1
    assert len(dataset.test) == 10 and len(dataset.train) + len(dataset.validation) == 20
    rows = dataset.test.rows(range(10))
    assert [row["seed"] for row in rows] == list(range(10)) == [first_pixel(row["image"]) for row in rows]
    assert [row["label"] for row in rows] == [0, 1] * 5
    row = dataset.train.row(0)
    assert row["image"].shape == (1, 28, 28) and row["image"].dtype == np.uint8
    assert {"judge.safetensors", "judge.json", "neighbours.safetensors"} == set(dataset.schema.assets)


def first_pixel(raw: bytes) -> int:
    return int(np.asarray(Image.open(io.BytesIO(raw)))[0, 0])


def test_labels_have_names_where_the_folder_gives_them(tmp_path: Path) -> None:
    root = idx_folder(tmp_path)
    (root / "labels.txt").write_text("shirt\nboot\nbag\n")
    assert Idx().scan(str(root), Data()).schema.labels == ("shirt", "boot")


def test_a_label_that_the_model_does_not_know_is_a_fault(tmp_path: Path) -> None:
    scan = Idx().scan(str(idx_folder(tmp_path)), Data())
    known = Schema(("0",), {"channels": 1, "numbers": [0]})
    good, bad = Idx().read(scan.items[:2], Data(), known)
    assert isinstance(good, dict) and bad == Fault("label 1 is none of the model's (0)")


def spoil(root: Path, name: str, raw: bytes) -> None:
    (root / f"{name}.gz").unlink(missing_ok=True)
    (root / name).write_bytes(raw)


IMAGES, LABELS_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        (IMAGES, b"\x00\x00\x08\x01" + bytes(40), "begins with the magic number 00000801, not with 00000803"),
        (LABELS_FILE, b"\x89PNG" + bytes(40), "begins with the magic number 89504e47, not with 00000801"),
        (IMAGES, b"\x00\x00", "2 bytes are no idx file"),
        (f"{IMAGES}.gz", gzip.compress(bytes(4000))[:-9], "the gzip file is truncated; download it again"),
        (f"{IMAGES}.gz", b"not gzip at all", "not a gzip file, or damaged"),
        (IMAGES, idx_bytes(np.zeros((20, 28, 28), np.uint8))[:-5], "20 x 28 x 28 = 15,680 bytes and 15,675"),
        (LABELS_FILE, idx_bytes(np.zeros(19, np.uint8)), "holds 20 pictures and train-labels-idx1-ubyte 19"),
        (LABELS_FILE, idx_bytes(np.zeros(0, np.uint8)), "it holds nothing"),
    ],
)
def test_an_idx_file_that_cannot_be_used_is_named_in_one_line(
    name: str, raw: bytes, said: str, tmp_path: Path, store: Store
) -> None:
    root = idx_folder(tmp_path / "raw")
    spoil(root, name, raw)
    with pytest.raises(DataError, match=re.escape(said)) as error:
        read(f"idx:{root}", store)
    assert name.removesuffix(".gz") in str(error.value) and "\n" not in str(error.value)


def test_missing_idx_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no train-images-idx3-ubyte or train-images-idx3-ubyte\.gz"):
        Idx().scan(str(tmp_path), Data())
    root = idx_folder(tmp_path / "raw")
    (root / f"{LABELS_FILE}.gz").unlink()
    with pytest.raises(DataError, match=f"{IMAGES}.gz stands without its labels; put {LABELS_FILE}"):
        Idx().scan(str(root), Data())


# ---------------------------------------------------------------- folders of pictures


def test_class_folders_hold_labels_and_split(tmp_path: Path, store: Store) -> None:
    root = picture_folder(tmp_path / "raw", "train/cat", "train/dog", "test/cat", "test/dog")
    dataset = read(f"images:{root}", store, Data(size=32))
    assert dataset.schema.labels == ("cat", "dog") and dataset.schema.fields == {"channels": 3}
    assert len(dataset.test) == 16 and dataset.train.row(0)["image"].shape == (3, 32, 32)
    assert sorted(row["seed"] for row in dataset.test.rows(range(16))) == list(range(16))


def test_pictures_without_class_folders_have_no_classes(tmp_path: Path, store: Store) -> None:
    root = picture_folder(tmp_path / "raw", ".", pictures=20)
    dataset = read(f"images:{root}", store, Data(size=28))
    assert dataset.schema.labels == () and dataset.train.row(0)["label"] == 0
    assert b"quarter turns" in dataset.schema.assets["judge.json"]
    assert len(dataset.test) + len(dataset.validation) + len(dataset.train) == 20 and len(dataset.test)


def test_grey_pictures_stay_grey(tmp_path: Path) -> None:
    for n in range(4):
        picture(n, "L").save(tmp_path / f"{n}.jpg")
    assert Images().scan(str(tmp_path), Data()).schema.fields == {"channels": 1}


def test_odd_pictures_are_read_and_stored_as_a_client_would_send_them(tmp_path: Path) -> None:
    picture(0, "CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((32, 40), 40_000, np.uint16)).save(tmp_path / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(1).save(tmp_path / "turned.jpg", exif=turned)
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "flat.bmp")
    frames[0].save(tmp_path / "lossy.webp")
    scan = Images().scan(str(tmp_path), Data())
    rows = dict(
        zip([i.name for i in scan.items], Images().read(scan.items, Data(), scan.schema), strict=True)
    )
    assert len(rows) == 6 and not any(isinstance(row, Fault) for row in rows.values())
    seen = {name: decode(row, Data(), scan.schema)["image"] for name, row in rows.items()}  # type: ignore[arg-type]
    assert all(image.shape == (3, 28, 28) for image in seen.values())
    assert seen["moving.gif"].mean((1, 2)) == pytest.approx([255, 0, 0], abs=2), "the first frame"
    assert seen["deep.png"].mean() == pytest.approx(40_000 / 256, abs=1)
    assert decode_image(rows["turned.jpg"]["image"]).size == (32, 40)  # type: ignore[index]


def test_a_picture_is_cut_to_its_middle_square() -> None:
    wide = np.zeros((30, 90, 3), np.uint8)
    wide[:, 30:60] = 200
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    assert (square(file.getvalue(), 28, 3)[:, :, 2:-2] >= 199).all()


@pytest.mark.parametrize(
    ("classes", "also", "said"),
    [
        (("a", "b"), "c/lonely.png", "class folder 'c' holds one picture, lonely.png; put 2 or more there"),
        (("a", "b"), "c/", "class folder 'c' holds no pictures"),
        (("a", "b"), "loose.png", "holds pictures (loose.png) beside folders (a)"),
        (("train/a", "train/b"), "more/", "folder 'more' stands beside train/"),
        (("a",), "", "holds one class folder, 'a'"),
        ((), "", "holds 0 pictures"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named_in_one_line(
    classes: tuple[str, ...], also: str, said: str, tmp_path: Path, store: Store
) -> None:
    root = picture_folder(tmp_path / "raw", *classes)
    root.mkdir(exist_ok=True)
    if also.endswith(".png"):
        (root / also).parent.mkdir(exist_ok=True)
        picture(1).save(root / also)
    elif also:
        (root / also).mkdir()
    with pytest.raises(DataError, match=re.escape(said)) as error:
        read(f"images:{root}", store)
    assert "\n" not in str(error.value)


def test_a_truncated_picture_is_named_or_skipped(tmp_path: Path, store: Store) -> None:
    root = picture_folder(tmp_path / "raw", "a", "b")
    victim = root / "a" / "0.png"
    victim.write_bytes(victim.read_bytes()[:500])
    with pytest.raises(DataError, match=re.escape("a/0.png: the picture is truncated")):
        read(f"images:{root}", store)
    card = read(f"images:{root}", store, skip_bad=1).card
    assert [bad["item"] for bad in card["skipped"]] == ["a/0.png"]


# ---------------------------------------------------------------- drawn art


def test_art_is_the_same_scene_at_any_size() -> None:
    small, large = art(5, 28), art(5, 112)
    assert small.shape == (28, 28, 3) and large.shape == (112, 112, 3)
    shrunk = large.reshape(28, 4, 28, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 4
    assert not np.array_equal(art(5, 28), art(13, 28)), "another picture of the same class"


def test_seeds_of_the_test_pictures_are_0_to_n() -> None:
    items = Synthetic().scan("", Data(pictures=400)).items
    for split in ("train", "test"):
        seeds = [item.where["seed"] for item in items if item.split == split]
        assert sorted(seeds) == list(range(len(seeds)))


def test_art_written_out_as_files_reads_back_with_its_classes(tmp_path: Path) -> None:
    write(tmp_path, 80, 64)
    scan = Images().scan(str(tmp_path), Data(size=64))
    assert len(scan.items) == 80 and scan.schema.fields == {"channels": 3}
    assert scan.schema.labels == tuple(label.replace(" ", "-") for label in LABELS)
    assert {item.split for item in scan.items} == {"train", "test"}
    (row,) = Images().read(scan.items[:1], Data(size=64), scan.schema)
    assert decode(row, Data(size=64), scan.schema)["image"].shape == (3, 64, 64)  # type: ignore[arg-type]


def test_too_little_art_is_an_error(store: Store) -> None:
    with pytest.raises(DataError, match=r"data\.pictures = 40: at least 80 are needed"):
        read("synthetic", store, Data(pictures=40))


def test_a_grid_lays_pictures_out_row_by_row() -> None:
    images = [np.full((1, 4, 4), n, np.uint8) for n in range(5)]
    sheet = grid(images)
    assert sheet.shape == (1, 9, 14)
    assert sheet[0, 0, 0] == 0 and sheet[0, 0, 5] == 1 and sheet[0, 5, 0] == 3 and sheet[0, -1, -1] == 255


@pytest.mark.real_data
def test_real_fashion_is_read_whole(real_data: Path, store: Store) -> None:
    dataset = read(f"idx:{real_data}/gan/fashion-mnist-subset", store)
    assert len(dataset.schema.labels) == 10 and len(dataset.test) == 1000
    assert len(dataset.train) + len(dataset.validation) == 6000
    assert dataset.card["licence"].startswith("The MIT License")
