"""Prepare, spread over Ray's workers by Ray Data: the same data set as in one process, and as calm."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process, ray_map, ray_mapper
from penstock.errors import DataError
from penstock.store import Store
from penstock.workload import Fault, Item, Row, Scan, Schema
from tests import toy

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.data.prepare.ROWS", 25)


def test_a_data_set_from_ray_is_the_one_from_a_single_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    events: list[dict[str, Any]] = []
    there = prepare(
        toy.workload, "synthetic", toy.Data(), Store.open(tmp_path / "there"), on_event=events.append
    )
    here = prepare(toy.workload, "synthetic", toy.Data(), Store.open(tmp_path / "here"), mapper=in_process)
    assert there.card == here.card
    there.verify()
    assert [event["done"] for event in events] == list(range(1, len(there.card["shards"]) + 1))
    assert len(events) >= 8
    out, err = capfd.readouterr()
    assert out == "" and "ray.data" not in err.lower()


def test_a_bad_item_found_by_a_worker_is_one_line_here(store: Store) -> None:
    with pytest.raises(DataError) as error:
        prepare(toy.workload, "synthetic", toy.Data(bad=3), store)
    assert str(error.value) == (
        "00000: 7 pixels; 64 are needed (3 bad of 200 items);"
        " repair or remove, or go on without with --skip-bad 3"
    )
    skipped = prepare(toy.workload, "synthetic", toy.Data(bad=3), store, skip_bad=3)
    assert [fault["item"] for fault in skipped.card["skipped"]] == ["00000", "00001", "00002"]
    assert sum(skipped.counts.values()) == 197


class KilledOnce(toy.Synthetic):
    """Kills the process that reads item 7 for the first time; `path` remembers that it did."""

    def scan(self, path: str, config: Any) -> Scan:
        scan = super().scan(path, config)
        items = [replace(item, where={**item.where, "path": path}) for item in scan.items]
        return replace(scan, items=items)

    def read(self, items: Sequence[Item], config: Any, schema: Schema) -> Iterable[Row | Fault]:
        for item, row in zip(items, super().read(items, config, schema), strict=True):
            told = Path(item.where["path"]) / "killed"
            if item.where["index"] == 7 and not told.exists():
                told.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            yield row


def test_a_killed_worker_costs_a_second_try_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    workload = replace(toy.workload, sources={"killed": f"{__name__}:KilledOnce"})
    source = f"killed:{tmp_path / 'raw'}"
    through_a_kill = prepare(workload, source, toy.Data(items=60), Store.open(tmp_path / "one"))
    assert int((tmp_path / "raw" / "killed").read_text()) != os.getpid()
    calm = prepare(workload, source, toy.Data(items=60), Store.open(tmp_path / "two"), mapper=in_process)
    assert through_a_kill.card == calm.card
    assert sorted(path.name for path in through_a_kill.path.iterdir()) == sorted(
        ["dataset.json", *calm.card["shards"]]
    )


def test_plans_for_this_node_are_carried_out_here_and_ray_deprecates_nothing_we_use() -> None:
    import ray

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = list(ray_map(where, [{"here": True}] * 2))
    assert found == [{"node": ray.get_runtime_context().get_node_id()}] * 2
    assert [str(one.message) for one in warned if "deprecated" in str(one.message)] == []


def where(plan: dict[str, Any]) -> dict[str, Any]:
    import ray

    return {"node": ray.get_runtime_context().get_node_id()}


def test_ray_is_started_only_when_there_is_something_to_do(store: Store) -> None:
    started: list[bool] = []
    mapper = ray_mapper(lambda: started.append(True))
    for _ in range(2):
        prepare(toy.workload, "synthetic", toy.Data(items=30), store, mapper=mapper)
    assert started == [True]
