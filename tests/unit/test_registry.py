"""Published models: committed or absent, one winner a number, nothing damaged is ever loaded."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from penstock import registry
from penstock.errors import ModelError, StoreError
from penstock.store import Store
from penstock.workload import Schema
from tests.toy import Config
from tests.versions import RECORDS, SCHEMA, WEIGHTS, publish

# ---------------------------------------------------------------- publish, find, load


def test_what_is_loaded_is_what_was_published(store: Store) -> None:
    version = publish(store, run="toy-abc", seed=7, tags={"by": "test"})
    model = registry.load(store, "toy")
    assert (model.name, model.version, model.config, model.schema) == ("toy", 1, Config(), SCHEMA)
    assert {name: tensor.tolist() for name, tensor in model.weights.items()} == {
        name: tensor.tolist() for name, tensor in WEIGHTS.items()
    }
    assert registry.records(version).equals(RECORDS)
    assert version.card["weights_sha256"] == registry.weights_sha256(model.weights)
    assert version.card["metrics"]["auroc"]["value"] is None  # JSON has no NaN


def test_a_card_says_where_the_model_came_from(store: Store) -> None:
    card = publish(store, run="toy-abc", seed=7).card
    assert (card["workload"], card["reference"], card["run"], card["seed"]) == (
        "toy",
        "tests.toy:workload",
        "toy-abc",
        7,
    )
    assert card["data"]["licence"] == "CC0-1.0" and card["data"]["synthetic"]
    assert len(card["code"]["source_sha256"]) == 64
    assert set(card["files"]) == {"weights.safetensors", "records.arrow", "assets/notes.json"}
    assert str(store.root) not in json.dumps(dict(card))


def test_the_first_version_is_live_and_later_ones_are_candidates(store: Store) -> None:
    assert publish(store).aliases == ("live",)
    assert publish(store).aliases == ("candidate",)
    assert publish(store).aliases == ("candidate",)
    assert registry.aliases(store, "toy") == {"live": 1, "candidate": 3}


def test_a_first_version_kept_from_going_live_is_a_candidate_and_the_error_says_what_to_type(
    store: Store,
) -> None:
    publish(store, live_first=False)
    with pytest.raises(ModelError, match=r"1 \(candidate\); say toy@1, or penstock promote toy 1 live"):
        registry.find(store, "toy")
    registry.promote(store, "toy", 1)
    assert registry.find(store, "toy").aliases == ("candidate", "live")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("toi", "no model 'toi'; did you mean toy"),
        ("../toy", "no model '../toy'"),
        ("..", "no model '..'"),
        ("toy@7", r"no version 7 of model toy; versions: 1 \(live\)"),
        ("toy@best", "no version of model toy is 'best'"),
        ("toy@", "no version of model toy is ''"),
        ("", "no model ''"),
    ],
)
def test_an_unknown_reference_is_one_line_with_what_there_is(
    store: Store, reference: str, message: str
) -> None:
    publish(store)
    with pytest.raises(ModelError, match=message) as error:
        registry.load(store, reference)
    assert "\n" not in str(error.value)


def test_an_empty_registry_says_how_to_fill_it(store: Store) -> None:
    with pytest.raises(ModelError, match="none is published yet: penstock train"):
        registry.find(store, "toy")
    assert registry.models(store) == []
    assert registry.published_by(store, "toy", "toy-1") is None


def test_other_labels_or_another_workload_are_refused_under_an_existing_name(store: Store) -> None:
    publish(store)
    with pytest.raises(ModelError, match=r'labels \["left", "right"\], not \["right", "left"\].*--model'):
        publish(store, schema=Schema(("right", "left"), {"size": 8}))
    with pytest.raises(ModelError, match="another task schema"):
        publish(store, schema=Schema(("left", "right"), {}))
    assert [version.version for version in registry.models(store, "toy")] == [1]


@pytest.mark.parametrize("name", ["Toy", "a/b", "..", "", "-toy", "t" * 65])
def test_a_name_that_could_leave_the_registry_is_refused(store: Store, name: str) -> None:
    with pytest.raises(ModelError, match="cannot name a model"):
        publish(store, name)


def test_what_a_run_published_is_found_again(store: Store) -> None:
    publish(store, run="one")
    publish(store, run="two")
    found = registry.published_by(store, "toy", "one")
    assert found is not None and found.version == 1
    assert registry.published_by(store, "toy", "three") is None


# ---------------------------------------------------------------- aliases


def test_promote_moves_an_alias_and_refuses_what_is_no_version_or_no_alias(store: Store) -> None:
    publish(store), publish(store)
    assert registry.promote(store, "toy", 2, "live").aliases == ("candidate", "live")
    assert registry.find(store, "toy").version == 2
    assert registry.promote(store, "toy", 1, "live").version == 1  # and back
    with pytest.raises(ModelError, match="no version 9"):
        registry.promote(store, "toy", 9)
    with pytest.raises(ModelError, match="cannot be an alias"):
        registry.promote(store, "toy", 1, "3")


def test_a_damaged_version_cannot_be_promoted(store: Store) -> None:
    publish(store)
    second = publish(store)
    cut_short(second.path / "weights.safetensors")
    with pytest.raises(ModelError, match="toy@2 is damaged"):
        registry.promote(store, "toy", 2)
    assert registry.find(store, "toy").version == 1


def test_aliases_move_atomically_under_readers_and_writers(store: Store) -> None:
    publish(store), publish(store)
    stop, seen, faults = threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.add(registry.find(store, "toy@live").version)
            except ModelError as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda v=v: [registry.promote(store, "toy", v) for _ in range(40)])
        for v in (1, 2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert faults == [] and seen <= {1, 2}


def test_damaged_aliases_are_named_and_keep_nobody_from_a_version(store: Store) -> None:
    publish(store)
    (store.models / "toy" / "aliases.json").write_text('{"aliases": [')
    with pytest.raises(ModelError, match="aliases of model toy are damaged"):
        registry.find(store, "toy")
    assert registry.load(store, "toy@1").version == 1


# ---------------------------------------------------------------- writers


def test_a_half_written_model_is_never_listed(store: Store) -> None:
    publish(store)
    half = store.models / "toy" / ".tmp-999999-abc"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert [version.version for version in registry.models(store)] == [1]
    publish(store)
    assert not half.exists()  # its writer is dead: swept


def test_a_crash_between_a_version_and_its_alias_is_settled_by_whoever_comes_next(store: Store) -> None:
    publish(store)
    (store.models / "toy" / "aliases.json").unlink()
    assert registry.aliases(store, "toy") == {"live": 1}
    registry.promote(store, "toy", 1, "blue")
    assert registry.aliases(store, "toy") == {"blue": 1, "live": 1}


def test_a_full_disk_is_named_and_the_registry_unchanged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="disk full while writing"):
        publish(store)
    monkeypatch.setattr(os, "fsync", real)
    assert [version.version for version in registry.models(store)] == [1]
    assert publish(store).version == 2


# ---------------------------------------------------------------- damage


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def link(path: Path) -> None:
    elsewhere = path.parent.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def reword(path: Path) -> None:
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def bend(path: Path) -> None:
    card = json.loads(path.read_text())
    card["files"]["../../../x"] = {"bytes": 1, "sha256": "00"}
    path.write_text(json.dumps(card))


DAMAGE = [
    ("weights.safetensors", flip, "hash of weights.safetensors"),
    ("weights.safetensors", cut_short, "weights.safetensors has [0-9]+ bytes, not"),
    ("weights.safetensors", Path.unlink, "weights.safetensors is missing"),
    ("weights.safetensors", link, "weights.safetensors is a symbolic link"),
    ("records.arrow", flip, "hash of records.arrow"),
    ("assets/notes.json", cut_short, "assets/notes.json has 1 bytes"),
    ("card.json", flip, "card.json"),
    ("card.json", cut_short, "card.json|changed"),
    ("card.json", Path.unlink, "card.json is missing"),
    ("card.json", reword, "card.json was changed"),
    ("card.json", bend, "card.json was changed"),
    ("card.json", link, "card.json is not a plain file"),
    ("card.json", lambda path: path.write_text("[" * 100_000), "not readable as JSON"),
    ("extra.py", lambda path: path.write_text("x"), "extra.py is not part of it"),
    ("assets/extra.json", lambda path: path.write_text("x"), "assets/extra.json is not part of it"),
    ("pipe", os.mkfifo, "pipe is not a plain file"),
    ("folder", Path.mkdir, "folder is not a plain file"),
]


@pytest.mark.parametrize(("file", "damage", "message"), DAMAGE)
def test_a_damaged_version_is_refused_in_one_line_and_its_neighbours_are_not(
    store: Store, file: str, damage: Callable[[Path], object], message: str
) -> None:
    publish(store)
    hurt = publish(store)
    publish(store, "other")
    if damage is not cut_short or file != "card.json":
        damage(hurt.path / file)
    else:
        (hurt.path / file).write_bytes((hurt.path / file).read_bytes()[:100])
    with pytest.raises(ModelError, match=message) as error:
        registry.load(store, "toy@2")
    assert "toy@2" in str(error.value) and "\n" not in str(error.value)
    assert registry.load(store, "toy").version == 1 and registry.load(store, "other").version == 1
    assert len(registry.models(store)) == 3
    assert publish(store).version == 3


def test_a_version_copied_under_another_number_or_linked_there_is_refused(store: Store) -> None:
    version = publish(store)
    version.path.rename(store.models / "toy" / "4")
    with pytest.raises(ModelError, match="toy@4 is damaged: its card belongs to toy@1"):
        registry.load(store, "toy@4")
    (store.models / "toy" / "5").symlink_to(store.models / "toy" / "4")
    with pytest.raises(ModelError, match="toy@5 is damaged: its folder is a symbolic link"):
        registry.load(store, "toy@5")


def test_a_card_that_names_what_is_not_installed_imports_nothing(store: Store) -> None:
    version = publish(store)
    card = json.loads((version.path / "card.json").read_text())
    from penstock.registry.card import seal

    (version.path / "card.json").write_bytes(seal({**card, "reference": "antigravity:workload"}))
    with pytest.raises(ModelError, match="antigravity:workload"):
        registry.load(store, "toy@1")
    assert "antigravity" not in sys.modules


def test_weights_that_share_memory_are_published_and_loading_unpickles_nothing(store: Store) -> None:
    shared = torch.ones(3)
    publish(store, weights={"a": shared, "b": shared})
    seen: list[str] = []
    sys.addaudithook(lambda event, _: seen.append(event) if event == "pickle.find_class" else None)
    assert registry.load(store, "toy").weights["b"].tolist() == [1.0, 1.0, 1.0]
    assert seen == []
