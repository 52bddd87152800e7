"""Raw files become a data set: every item once, checked, in a split that only its name decides."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from penstock.config import Optim, Train
from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import Plan, Result, in_process
from penstock.data.shards import Shards
from penstock.data.splits import assign
from penstock.errors import DataError, StoreError
from penstock.store import Store, publish_folder
from penstock.workload import Fault, Goal, Item, Row, Scan, Schema, Workload

HERE = __name__


@dataclass(frozen=True)
class Data:
    size: int = 3  # numbers a row has
    validation: float = 0.2


@dataclass(frozen=True)
class Config:
    data: Data = field(default_factory=Data)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)


class Folders:
    """root/[train|test/]<class>/<item>.txt with numbers; the unit is what comes before the first "-"."""

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path)
        files = sorted(root.rglob("*.txt"))
        splits = {"train": "train", "test": "test"}
        items = [
            Item(
                name=file.relative_to(root).as_posix(),
                split=splits.get(file.relative_to(root).parts[0], ""),  # type: ignore[arg-type]
                unit=file.name.partition("-")[0],
                where={"path": str(file), "label": file.parent.name},
            )
            for file in files
        ]
        labels = sorted({folder.name for folder in root.rglob("*") if folder.is_dir()} - splits.keys())
        return Scan(
            items, Schema(tuple(labels), {"size": config.size}, {"map.json": b"[1]"}), files, "CC0-1.0"
        )

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item in items:
            raw = Path(item.where["path"]).read_bytes()
            label = schema.labels.index(item.where["label"])
            yield {"raw": raw, "label": label} if raw else Fault("the file is empty")


def decode(row: Row, config: Data, schema: Schema) -> Row:
    assert schema.assets["map.json"] == b"[1]"
    return {"x": np.array(row["raw"].split()[: config.size], np.float32), "label": row["label"]}


class Nothing(BaseModel):
    pass


WORKLOAD = Workload(
    name="numbers",
    config=Config,
    sources={"folders": f"{HERE}:Folders", "synthetic": f"{HERE}:Folders"},
    decode=f"{HERE}:decode",
    trainers={},
    predictor="",
    evaluator="",
    request=Nothing,
    answer=Nothing,
    goal=Goal("accuracy", "max"),
    space={},
    presets={},
)


def write_items(root: Path, classes: dict[str, int], below: str = "") -> Path:
    for label, count in classes.items():
        folder = root / below / label
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / f"u{number % 4}-{number}.txt").write_text(f"{number} 2 3 4")
    return root


def made(root: Path, store: Store, config: Data = Data(), **options: Any) -> Dataset:
    return prepare(WORKLOAD, f"folders:{root}", config, store, **{"mapper": in_process, **options})


def names(dataset: Dataset) -> dict[str, list[str]]:
    return {split: getattr(dataset, split).column("item") for split in ("train", "validation", "test")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_items(tmp_path / "raw", {"a": 20, "b": 30})


# ---------------------------------------------------------------- what is made


def test_every_item_is_in_exactly_one_split(root: Path, store: Store) -> None:
    dataset = made(root, store)
    split = names(dataset)
    everything = [name for each in split.values() for name in each]
    assert sorted(everything) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.txt"))
    assert all(each == sorted(each) and each for each in split.values())
    assert dataset.counts == {name: len(each) for name, each in split.items()}
    assert sum(dataset.card["classes"][name]["a"] for name in split) == 20


def test_train_rows_are_decoded_and_the_others_are_as_a_client_sends_them(root: Path, store: Store) -> None:
    dataset = made(root, store)
    assert dataset.train.columns == ["x", "label", "item"]
    assert dataset.train.row(0)["x"].tolist()[1:] == [2, 3]
    for rows in (dataset.validation, dataset.test):
        row = rows.row(0)
        assert sorted(row) == ["item", "label", "raw", "unit"]
        assert row["raw"] == (root / row["item"]).read_bytes()
        assert row["unit"] == Path(row["item"]).name.partition("-")[0]


def test_the_card_says_what_the_data_is_and_not_where_it_was(root: Path, store: Store) -> None:
    dataset = made(root, store)
    text = (dataset.path / "dataset.json").read_text()
    card = json.loads(text)
    assert str(root.parent) not in text
    assert card["source"] == {"format": "folders", "name": "raw"}
    assert (card["format"], card["licence"], card["skipped"]) == (1, "CC0-1.0", [])
    assert dataset.path == store.datasets / dataset.id and dataset.fingerprint.startswith(dataset.id)
    assert dataset.schema == Schema(("a", "b"), {"size": 3}, {"map.json": b"[1]"})
    assert not dataset.synthetic
    dataset.verify()


def test_shards_do_not_hang_on_who_wrote_them_and_in_what_order(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.data.prepare.ROWS", 4)

    def backwards(fn: Any, plans: Sequence[Plan]) -> list[Result]:
        return [json.loads(json.dumps(fn(json.loads(json.dumps(plan))))) for plan in reversed(plans)]

    one = made(root, Store.open(tmp_path / "one"))
    other = made(root, Store.open(tmp_path / "other"), mapper=backwards)
    assert one.card == other.card and len(one.card["shards"]) > 10
    assert names(one) == names(other)


def test_progress_is_told_shard_by_shard(root: Path, store: Store) -> None:
    events: list[dict[str, Any]] = []
    made(root, store, on_event=events.append)
    assert events == [{"event": "prepare", "done": n, "total": 3} for n in (1, 2, 3)]


# ---------------------------------------------------------------- once


def test_a_second_prepare_of_the_same_input_does_nothing(root: Path, store: Store) -> None:
    first = made(root, store)

    def nobody(fn: Any, plans: Any) -> Any:
        raise AssertionError("work was done again")

    again = made(root, store, mapper=nobody)
    assert again.card == first.card
    moved = root.rename(root.with_name("elsewhere"))
    assert made(moved, store, mapper=nobody).id == first.id


@pytest.mark.parametrize("change", ["content", "more", "config", "seed"])
def test_another_input_makes_another_data_set(root: Path, store: Store, change: str) -> None:
    first = made(root, store)
    if change == "content":
        (root / "a" / "u0-0.txt").write_text("9 9 9 9 9")
    if change == "more":
        (root / "a" / "u9-new.txt").write_text("1 1 1")
    second = made(
        root, store, Data(size=2) if change == "config" else Data(), seed=1 if change == "seed" else 0
    )
    assert second.id != first.id
    assert Dataset.load(first.path).card == first.card


def test_a_damaged_data_set_is_made_again(root: Path, store: Store) -> None:
    dataset = made(root, store)
    shard = dataset.path / "train-00000.arrow"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert made(root, store).id == dataset.id
    assert shard.read_bytes() == whole
    # one bit: the size is right, so only the hashes tell
    shard.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    with pytest.raises(DataError, match=r"damaged at train-00000\.arrow"):
        Dataset.load(dataset.path).verify()
    (store.datasets / "index").rename(store.root / "index-gone")
    assert made(root, store).id == dataset.id
    assert shard.read_bytes() == whole


def test_two_processes_that_prepare_the_same_make_one_data_set(root: Path, store: Store) -> None:
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                made(root, store)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    assert len(list(store.datasets.glob("*/dataset.json"))) == 1
    assert not list(store.datasets.glob(".tmp-*"))


# ---------------------------------------------------------------- splits


def test_the_sources_own_splits_are_kept(tmp_path: Path, store: Store) -> None:
    root = write_items(tmp_path / "raw", {"a": 10, "b": 10}, "train")
    write_items(root, {"a": 3, "b": 3}, "test")
    split = names(made(root, store))
    assert len(split["test"]) == 6 and all(name.startswith("test/") for name in split["test"])
    assert len(split["validation"]) >= 1


def test_an_item_stays_in_its_split_when_others_are_added(root: Path, store: Store) -> None:
    before = names(made(root, store))
    write_items(root, {"a": 40, "b": 40})
    after = names(made(root, store))
    assert all(set(before[split]) <= set(after[split]) for split in before)


def test_every_split_has_an_item_from_five_items_on() -> None:
    for count in range(5, 40):
        for seed in range(10):
            items = [Item(f"{number}") for number in range(count)]
            assert set(assign(items, seed, 0.2).values()) == {"train", "validation", "test"}


def test_items_of_a_group_are_never_parted() -> None:
    items = [Item(f"{dialogue}.{turn}", group=str(dialogue)) for dialogue in range(500) for turn in range(4)]
    split = assign(items, 0, 0.2)
    sides = {dialogue: {split[f"{dialogue}.{turn}"] for turn in range(4)} for dialogue in range(500)}
    assert all(len(found) == 1 for found in sides.values())
    counts = Counter(next(iter(found)) for found in sides.values())
    assert 70 < counts["test"] < 130 and 50 < counts["validation"] < 110
    kept = assign(items, 0, 0.2, keep=[name for name in split if split[name] == "test"][:1])
    name = next(name for name in split if split[name] == "test")
    assert {kept[one] for one in split if one.partition(".")[0] == name.partition(".")[0]} == {"train"}


def test_shares_are_about_what_was_asked_for() -> None:
    split = assign([Item(f"{number}") for number in range(5_000)], 0, 0.3)
    shares = {name: list(split.values()).count(name) / 5_000 for name in ("train", "validation", "test")}
    assert shares["test"] == pytest.approx(0.2, abs=0.02)
    assert shares["validation"] == pytest.approx(0.8 * 0.3, abs=0.02)
    assert "validation" not in assign([Item(f"{number}") for number in range(50)], 0, 0.0).values()


def test_a_class_of_one_item_trains(tmp_path: Path, store: Store) -> None:
    root = write_items(tmp_path / "raw", {"a": 30, "b": 30})
    for seed in range(12):  # by hash alone, the one item would be elsewhere for about four of these
        for number in range(3):
            shutil.rmtree(root / "rare", ignore_errors=True)
            (root / "rare").mkdir()
            (root / "rare" / f"u{seed}-{number}.txt").write_text("1 1 1")
            assert made(root, store, seed=seed).card["classes"]["train"]["rare"] == 1


def test_evaluation_takes_the_test_split_or_every_item(tmp_path: Path, store: Store) -> None:
    root = write_items(tmp_path / "raw", {"b": 7})
    model = Schema(("a", "b", "c"), {"size": 3}, {"map.json": b"[1]"})
    whole = made(root, store, use="evaluate", schema=model)
    assert whole.counts == {"train": 0, "validation": 0, "test": 7}
    assert set(whole.test.column("label")) == {1}  # as the model counts its classes
    assert whole.schema == model
    write_items(root, {"c": 2}, "test")
    assert made(root, store, use="evaluate", schema=model).counts["test"] == 2
    write_items(root, {"other": 1})
    with pytest.raises(DataError, match="class 'other'; the model knows a, b, c"):
        made(root, store, use="evaluate", schema=model)


# ---------------------------------------------------------------- bad input


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text


def test_a_bad_item_is_named_and_only_skipped_when_told_to(root: Path, store: Store) -> None:
    (root / "a" / "u0-0.txt").write_text("")
    (root / "b" / "u1-1.txt").write_text("1 two 3")
    for skip_bad in (0, 1):
        with pytest.raises(DataError) as error:
            made(root, store, skip_bad=skip_bad)
        assert one_line(error).startswith("a/u0-0.txt: the file is empty (2 bad of 50 items)")
        assert one_line(error).endswith("--skip-bad 2")
    assert [path.name for path in store.datasets.iterdir()] == ["index"]

    dataset = made(root, store, skip_bad=2)
    skipped = dataset.card["skipped"]
    assert [fault["item"] for fault in skipped] == ["a/u0-0.txt", "b/u1-1.txt"]
    assert skipped[1]["why"].startswith("could not convert string to float")
    assert sum(dataset.counts.values()) == 48
    with pytest.raises(DataError, match="--skip-bad 2"):  # what was made before does not hide it
        made(root, store)
    (root / "a" / "u0-0.txt").unlink()
    (root / "b" / "u1-1.txt").unlink()
    clean = made(root, store)
    assert clean.card["skipped"] == [] and clean.id != dataset.id


def test_an_empty_class_is_named(root: Path, store: Store) -> None:
    (root / "c").mkdir()
    with pytest.raises(DataError, match="class 'c' is empty") as error:
        made(root, store)
    one_line(error)


def test_one_class_only_is_refused(tmp_path: Path, store: Store) -> None:
    root = write_items(tmp_path / "raw", {"a": 10})
    with pytest.raises(DataError, match="raw holds only one class, 'a'; a classifier needs two"):
        made(root, store)


def test_a_class_that_is_only_tested_is_refused(tmp_path: Path, store: Store) -> None:
    root = write_items(tmp_path / "raw", {"a": 5, "b": 5}, "train")
    write_items(root, {"a": 1, "c": 1}, "test")
    with pytest.raises(DataError, match="class 'c' has items in the test split only"):
        made(root, store)


def test_data_without_anything_to_train_on_is_refused(tmp_path: Path, store: Store) -> None:
    root = write_items(tmp_path / "raw", {"a": 5, "b": 5}, "test")
    with pytest.raises(DataError, match="all 10 are marked as test"):
        made(root, store)


def test_an_empty_folder_is_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match="folders:raw holds no items"):
        made(tmp_path / "raw", store)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("folder:x", "no source format 'folder' in 'folder:x'; did you mean folders?"),
        ("../data", "no source '../data'; write one of folders:PATH, synthetic"),
        ("sinthetic", "no source 'sinthetic'; did you mean synthetic?; write one of folders:PATH, synthetic"),
        ("folders:", "source 'folders:' names no path; write folders:PATH"),
        (
            "folders:/nowhere/at/all",
            "source 'folders:/nowhere/at/all': no file or folder '/nowhere/at/all'; check the path",
        ),
        ("folders:s3://b/x", "source 'folders:s3://b/x': not a local path; copy the data to a folder first"),
        ("synthetic:x", "source 'synthetic:x': synthetic data has no path; set data.* to change it"),
    ],
)
def test_a_source_that_is_not_one_is_answered_with_the_way_out(store: Store, source: str, why: str) -> None:
    with pytest.raises(DataError) as error:
        prepare(WORKLOAD, source, Data(), store, mapper=in_process)
    assert one_line(error) == why


class Doubles(Folders):
    def scan(self, path: str, config: Data) -> Scan:
        scan = super().scan(path, config)
        return replace(
            scan, items=[*scan.items, next(item for item in scan.items if item.name == "a/u0-4.txt")]
        )


class Short(Folders):
    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        return list(super().read(items, config, schema))[:-1]


class Strange(Folders):
    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        return [{"raw": b"1 2 3", "label": 7, "extra": None} for _ in items]


class Ragged(Folders):
    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        return [{"raw": b"1 2 3", "label": 0, **({"extra": 1} if i else {})} for i, _ in enumerate(items)]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("Doubles", "holds 2 items called 'a/u0-4.txt'"),
        ("Short", "gave no row for b/"),
        ("Strange", "label 7 is not one of 2 classes"),
        ("Ragged", "rows have other columns"),
    ],
)
def test_a_source_that_breaks_the_contract_is_named(root: Path, store: Store, source: str, why: str) -> None:
    broken = replace(WORKLOAD, sources={"folders": f"{HERE}:{source}"})
    with pytest.raises(DataError, match=why) as error:
        prepare(broken, f"folders:{root}", Data(), store, mapper=in_process)
    one_line(error)
    assert not list(store.datasets.glob("*/dataset.json"))


def test_a_full_disk_stops_prepare_in_one_line_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs needs root: {mounted.stderr.strip()}")
    try:
        store = Store.open(place)
        with publish_folder(store.models, "1") as folder:
            (folder / "kept").write_bytes(b"x" * 30_000)
        for number in range(50):
            (root / "a" / f"u1-big{number}.txt").write_text("1 2 3 " * 2_000)
        with pytest.raises(StoreError, match=r"disk full while writing .*PENSTOCK_STORE") as error:
            made(root, store)
        one_line(error)
        assert [path.name for path in store.datasets.iterdir()] == ["index"]
        assert (store.models / "1" / "kept").stat().st_size == 30_000
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_what_a_killed_prepare_left_is_swept_by_the_next(root: Path, store: Store) -> None:
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from penstock.store import folder_aside\n"
        f"with folder_aside(Path({str(store.datasets)!r})) as folder:\n"
        "    (folder / 'train-00000.arrow').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(store.datasets.glob(".tmp-*"))) == 1
    made(root, store)
    assert not list(store.datasets.glob(".tmp-*"))


def test_a_data_set_that_is_missing_or_of_a_later_format_is_named(root: Path, store: Store) -> None:
    with pytest.raises(DataError, match="nowhere is missing or damaged"):
        Dataset.load(store.datasets / "nowhere")
    dataset = made(root, store)
    card = json.loads((dataset.path / "dataset.json").read_text())
    (dataset.path / "dataset.json").write_text(json.dumps({**card, "format": 2}))
    with pytest.raises(DataError, match="has format 2; this version reads 1"):
        Dataset.load(dataset.path)


# ---------------------------------------------------------------- what is fitted to the whole; many labels


def mean(train: Shards, config: Data, schema: Schema) -> dict[str, bytes]:
    """What a fit may be: a fact about all training rows."""
    total = sum(float(train.row(i)["x"][0]) for i in range(len(train)))
    return {"mean.json": json.dumps([len(train), total / len(train)]).encode()}


FITTED = replace(WORKLOAD, fit=f"{HERE}:mean")


def test_what_is_fitted_to_the_training_rows_travels_with_the_data_set(tmp_path: Path, store: Store) -> None:
    root = write_items(tmp_path / "raw", {"a": 10, "b": 10})
    dataset = prepare(FITTED, f"folders:{root}", Data(), store, mapper=in_process)
    numbers = [float(dataset.train.row(i)["x"][0]) for i in range(len(dataset.train))]
    assert dataset.schema.assets["map.json"] == b"[1]"  # the source's own stay
    assert json.loads(dataset.schema.assets["mean.json"]) == [len(numbers), sum(numbers) / len(numbers)]
    dataset.verify()
    assert dataset.id != made(root, store).id


def test_other_data_is_judged_with_what_the_model_was_fitted_to(tmp_path: Path, store: Store) -> None:
    root, other = write_items(tmp_path / "one", {"a": 10, "b": 10}), write_items(tmp_path / "two", {"a": 3})
    schema = prepare(FITTED, f"folders:{root}", Data(), store, mapper=in_process).schema
    known = replace(schema, assets={"map.json": b"[1]", "mean.json": b"[7, 7.0]"})
    judged = prepare(
        FITTED, f"folders:{other}", Data(), store, mapper=in_process, use="evaluate", schema=known
    )
    assert judged.schema == known


class Crowds(Folders):
    """Each item shows its folder's class as often as its number says, and may show none."""

    def scan(self, path: str, config: Data) -> Scan:
        return replace(super().scan(path, config), exclusive=False)

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item, row in zip(items, super().read(items, config, schema), strict=True):
            assert not isinstance(row, Fault)
            count = int(item.name.rpartition("-")[2].removesuffix(".txt"))
            yield {"raw": row["raw"], "labels": np.full(count, row["label"], np.int64)}


def test_items_that_show_many_labels_or_none_are_counted_label_by_label(tmp_path: Path, store: Store) -> None:
    crowds = replace(
        WORKLOAD, sources={"folders": f"{HERE}:Crowds", "synthetic": ""}, decode=f"{HERE}:decode_crowd"
    )
    root = write_items(tmp_path / "raw", {"a": 12})
    (root / "rare").mkdir()  # a label that nothing shows
    dataset = prepare(crowds, f"folders:{root}", Data(), store, mapper=in_process)
    classes = dataset.card["classes"]
    assert sum(classes[split]["a"] for split in classes) == sum(range(12))
    assert all(classes[split]["rare"] == 0 for split in classes)
    alone = write_items(tmp_path / "alone", {"a": 12})
    assert prepare(crowds, f"folders:{alone}", Data(), store, mapper=in_process).schema.labels == ("a",)


def test_a_label_beyond_the_known_ones_is_a_fault(tmp_path: Path, store: Store) -> None:
    wrong = replace(
        WORKLOAD, sources={"folders": f"{HERE}:Wrong", "synthetic": ""}, decode=f"{HERE}:decode_crowd"
    )
    with pytest.raises(DataError, match="label 9 is not one of 1 classes"):
        prepare(wrong, f"folders:{write_items(tmp_path / 'raw', {'a': 8})}", Data(), store, mapper=in_process)


class Wrong(Crowds):
    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for row in super().read(items, config, schema):
            yield row if isinstance(row, Fault) else {**row, "labels": np.array([0, 9])}


def decode_crowd(row: Row, config: Data, schema: Schema) -> Row:
    return {"x": np.array(row["raw"].split()[: config.size], np.float32), "labels": row["labels"]}


class Renamed(Folders):
    """Another format that holds the same."""


def test_the_same_content_in_another_format_is_the_same_data_set(tmp_path: Path, store: Store) -> None:
    root = write_items(tmp_path / "raw", {"a": 10, "b": 10})
    both = replace(WORKLOAD, sources={**WORKLOAD.sources, "renamed": f"{HERE}:Renamed"})
    one, other = (
        prepare(both, f"{form}:{root}", Data(), store, mapper=in_process) for form in ("folders", "renamed")
    )
    assert one.id == other.id and one.card == other.card
