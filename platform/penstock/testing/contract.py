"""Checks of what comes before learning: what a workload says about itself, its data, its batches."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from penstock.config import Optim, Train, check_keys, dotted, from_dict, to_dict
from penstock.testing.compare import example_of, leaves, same
from penstock.testing.subject import ROWS, Subject
from penstock.workload import NAME, resolve

# ---------------------------------------------------------------- what it says about itself


def fields(subject: Subject) -> None:
    workload = subject.workload
    assert NAME.fullmatch(workload.name), f"name {workload.name!r} must match {NAME.pattern}"
    assert workload.summary, "summary is empty; `penstock list` prints it"
    assert "synthetic" in workload.sources, "there is no source `synthetic`"
    assert workload.trainers, "there is no trainer"
    kind = workload.config
    frozen = dataclasses.is_dataclass(kind) and getattr(kind, "__dataclass_params__").frozen  # noqa: B009
    assert frozen, "config is not a frozen dataclass"
    config = kind()
    for section, wanted in (("optim", Optim), ("train", Train)):
        assert isinstance(getattr(config, section, None), wanted), (
            f"config.{section} is not a penstock.config.{wanted.__name__}"
        )
    assert dataclasses.is_dataclass(getattr(config, "data", None)), "config has no section `data`"
    assert from_dict(kind, to_dict(config)) == config, "config does not survive JSON"
    first = next(iter(workload.trainers))
    assert workload.trainer(config) == first, f"the default trainer is not the first, {first!r}"
    assert len(workload.trainers) == 1 or hasattr(config, "trainer"), "config has no field `trainer`"


def presets(subject: Subject) -> None:
    for name in ("smoke", "default", "gpu"):
        assert name in subject.workload.presets, f"there is no preset {name!r}"
    for name, preset in subject.workload.presets.items():
        assert isinstance(preset, subject.workload.config), (
            f"preset {name!r} is not a {subject.workload.config.__name__}"
        )
        assert from_dict(subject.workload.config, to_dict(preset)) == preset, (
            f"preset {name!r} does not survive JSON"
        )
    for key in subject.workload.space:
        assert key in dotted(subject.workload.config), f"the search space has {key!r}, which is no setting"
        nested: Any = 0
        for part in reversed(key.split(".")):
            nested = {part: nested}
        check_keys(subject.workload.config, nested, "")


def references(subject: Subject) -> None:
    named = subject.workload
    many = [*named.sources.values(), *named.trainers.values()]
    for reference in [
        *many,
        named.decode,
        named.predictor,
        named.evaluator,
        *filter(None, [named.exporter, named.commands]),
    ]:
        assert resolve(reference) is not None, f"{reference} is None"


def examples(subject: Subject) -> None:
    for kind in (subject.workload.request, subject.workload.answer):
        example = example_of(kind)
        assert example is not None, (
            f'{kind.__name__} has no example: model_config["json_schema_extra"]["examples"]'
        )
        made = kind.model_validate(example)
        assert kind.model_validate_json(made.model_dump_json()) == made, (
            f"the example of {kind.__name__} does not survive JSON"
        )


# ---------------------------------------------------------------- raw data -> batches


def scans(subject: Subject) -> None:
    source = resolve(subject.workload.sources["synthetic"])()
    scan, again = (source.scan("", subject.config.data) for _ in range(2))
    names = [item.name for item in scan.items]
    assert names, "the synthetic source is empty"
    assert len(set(names)) == len(names), "item names are not unique"
    assert [item.name for item in again.items] == names, "two scans differ"
    for item in scan.items:
        copy = dataclasses.replace(item, where=json.loads(json.dumps(item.where)))
        assert copy == item, f"item {item.name!r}: `where` does not survive JSON"


def prepares(subject: Subject) -> None:
    from penstock.data.prepare import prepare
    from penstock.data.ray_map import in_process

    dataset = subject.dataset
    for split, count in dataset.counts.items():
        assert count, f"the synthetic source leaves no {split} items"
    assert len(dataset.train) >= ROWS, f"{len(dataset.train)} items to train on; these checks need {ROWS}"
    again = prepare(subject.workload, "synthetic", subject.config.data, subject.store, mapper=in_process)
    assert again.id == dataset.id, "a second prepare makes another data set"


def collates(subject: Subject) -> None:
    task = subject.task()
    first, second = (leaves(task.collate(subject.items(0, ROWS))) for _ in range(2))
    assert len(first) == len(second) and all(map(same, first, second)), (
        "collate draws from outside the item's generator"
    )
    empty = task.collate(subject.items(0, 0))
    assert leaves(empty) or empty is not None, "collate gives nothing for no items"
