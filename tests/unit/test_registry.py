"""Published models: committed or absent, one winner a number, nothing damaged is ever loaded."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from penstock import registry
from penstock.errors import ModelError, StoreError
from penstock.registry import Version, publishing
from penstock.store import Store
from penstock.workload import Schema
from tests.toy import Config, workload

SCHEMA = Schema(("left", "right"), {"size": 8}, {"notes.json": b"{}"})
WEIGHTS = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.tensor([0.5, -0.5])}
RECORDS = pa.table({"item": ["a", "b"], "unit": ["a", "b"], "score": [0.1, 0.9]})
METRICS = {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "auroc": {"value": float("nan")}}


def data_card(name: str = "synthetic") -> dict[str, Any]:
    return {
        "id": "0123456789abcdef",
        "source": {"format": name, "name": ""},
        "licence": "CC0-1.0",
        "counts": {"train": 8, "validation": 2, "test": 2},
        "shards": {"test-0.arrow": {"split": "test", "sha256": "00"}},
    }


def publish(store: Store, name: str = "toy", **changed: Any) -> Version:
    given: dict[str, Any] = {
        "metrics": METRICS,
        "records": RECORDS,
        "dataset_card": data_card(),
        "run": "toy-1",
        "seed": 0,
    }
    schema, weights = changed.pop("schema", SCHEMA), changed.pop("weights", WEIGHTS)
    return registry.publish(store, name, workload, Config(), schema, weights, **(given | changed))


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


def test_two_writers_of_one_number_have_exactly_one_winner_in_200_races(store: Store) -> None:
    """Two processes let go at the same moment for each of 200 numbers."""
    races = 200
    publish(store)
    start = multiprocessing.get_context("fork").Barrier(2)
    children = [
        fork(lambda report, who=who: report(json.dumps(race(store, who, races, start)))) for who in (0, 1)
    ]
    won = [set(json.loads(finish(pid, pipe))) for pid, pipe in children]
    assert won[0] | won[1] == set(range(2, races + 2)) and not won[0] & won[1]
    versions = registry.models(store, "toy")
    assert [version.version for version in versions] == list(range(1, races + 2))
    for version in versions[1:]:
        registry.verify(version)
        assert version.card["run"] == f"writer-{0 if version.version in won[0] else 1}"


def race(store: Store, who: int, races: int, start: Any) -> list[int]:
    """The numbers won by writer `who`, who commits what was published before."""
    folder, won = store.models / "toy", []
    contents = {name: (folder / "1" / name).read_bytes() for name in ("weights.safetensors", "records.arrow")}
    card = json.loads((folder / "1" / "card.json").read_text())
    card |= {"run": f"writer-{who}", "files": {name: card["files"][name] for name in contents}}
    for number in range(2, races + 2):
        start.wait()
        try:
            won.append(publishing.commit(folder, card, contents, live_first=True, version=number))
        except ModelError as error:
            assert "exists already" in str(error)
    return won


def test_writers_that_ask_for_no_number_lose_no_publish(store: Store) -> None:
    each = 10

    def write(who: int) -> str:
        return json.dumps([publish(store, run=f"{who}-{i}").version for i in range(each)])

    pids = [fork(lambda report, who=who: report(write(who))) for who in range(4)]
    numbers = [number for pid, pipe in pids for number in json.loads(finish(pid, pipe))]
    assert sorted(numbers) == list(range(1, 4 * each + 1))
    assert {version.card["run"] for version in registry.models(store)} == {
        f"{who}-{i}" for who in range(4) for i in range(each)
    }
    assert registry.aliases(store, "toy") == {"live": 1, "candidate": 4 * each}


def test_a_kill_at_every_step_of_publishing_loses_nothing_and_yields_nothing_half(store: Store) -> None:
    """SIGKILL before each system call that opens, writes, renames or flushes: an audit hook and the flush
    itself are the steps."""
    publish(store)
    steps = 0
    while True:
        before = {version.version for version in registry.models(store)}
        pid, pipe = fork(lambda report, step=steps: killed_at(step, lambda: publish(store)))
        pipe.close()
        status = os.waitpid(pid, 0)[1]
        listed = registry.models(store)
        assert [version.fault for version in listed] == [""] * len(listed)
        for version in listed:
            registry.verify(version)
        after = {version.version for version in listed}
        assert before <= after and len(after) <= len(before) + 1
        aliases = registry.aliases(store, "toy")
        assert aliases["live"] == 1 and aliases.get("candidate", max(after)) == max(after)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0 and len(after) == len(before) + 1
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        steps += 1
    assert steps >= 20, steps
    final = publish(store)  # no manual repair: the next writer just goes on
    assert final.version == max(after) + 1
    assert [path.name for path in (store.models / "toy").glob(".tmp-*")] == []


STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")


def killed_at(step: int, act: Callable[[], object]) -> None:
    """Runs `act`; the process kills itself when the step-th change to the disk is about to happen."""
    count = 0

    def tick() -> None:
        nonlocal count
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS and not (event == "open" and reads(arguments)):
            tick()

    flush = os.fsync
    os.fsync = lambda descriptor: (tick(), flush(descriptor))[1]  # type: ignore[assignment]
    sys.addaudithook(hook)
    act()


def reads(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return (mode is not None and "r" in mode and "+" not in mode) or (
        mode is None and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )


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


# ---------------------------------------------------------------- processes


def fork(act: Callable[[Callable[[str], None]], object]) -> tuple[int, Any]:
    """A child that runs `act(report)` and exits; what it reports is read from the pipe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            act(lambda text: os.write(writing, text.encode()) and None)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return pid, os.fdopen(reading)


def finish(pid: int, pipe: Any) -> str:
    with pipe:
        said: str = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return said
