"""The number of workers, the strategy and a kill change nothing: real gloo workers, no Ray."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.config import Optim, Train
from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.registry import weights_sha256
from penstock.store import Store
from tests import toy
from tests.cluster.forked import Made, train_with

FP64 = 1e-9
FP32 = 5e-6  # measured: at most 2e-7 in weights after these 54 steps
BATCH = 23  # 116 items to train on: five steps of 23 and one of a single item, so most workers are empty


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("parity"))


@pytest.fixture(scope="module")
def dataset(store: Store) -> Dataset:
    made = prepare(toy.workload, "synthetic", toy.Data(), store, mapper=in_process)
    assert made.counts["train"] % BATCH == 1
    return made


def config(**settings: Any) -> toy.Config:
    """54 steps, augmentation on; settings go to where they belong."""
    train = Train(
        epochs=9, batch=BATCH, precision="fp64", publish="last", validate_every=9, checkpoint_every=100
    )
    made = toy.Config(optim=Optim(lr=1e-2, warmup_steps=5), train=train)
    for name, value in settings.items():
        section = next(s for s in ("optim", "train", "model") if name in vars(getattr(made, s)))
        made = replace(made, **{section: replace(getattr(made, section), **{name: value})})
    return made


@pytest.fixture(scope="module")
def alone(store: Store, dataset: Dataset) -> Any:
    """One worker's result, made once for each config."""
    made: dict[Any, Made] = {}

    def of(workload: Any, settings: toy.Config) -> Made:
        key = (workload.name, settings)
        if key not in made:
            result = train_with(1, workload, settings, dataset, store)
            assert result is not None
            made[key] = result
        return made[key]

    return of


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_workers_do_not_change_the_result_in_fp64(
    workers: int, dropout: float, store: Store, dataset: Dataset, alone: Any
) -> None:
    settings = config(dropout=dropout)
    many = train_with(workers, toy.workload, settings, dataset, store)
    one = alone(toy.workload, settings)
    assert many is not None and len(many.losses) == 54
    assert many.distance(one) <= FP64
    assert np.abs(many.losses - one.losses).max() <= FP64
    assert many.run.metrics.validations() == one.run.metrics.validations()


def test_augmentation_and_dropout_are_on_in_these_tests(alone: Any) -> None:
    plain = alone(toy.workload, config())
    assert plain.distance(alone(toy.workload, config(augment=False))) > 1e-3
    assert plain.distance(alone(toy.workload, config(dropout=0.4))) > 1e-3


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_change_fp32_only_by_rounding(
    workers: int, store: Store, dataset: Dataset, alone: Any
) -> None:
    settings = config(precision="fp32", dropout=0.4)
    many = train_with(workers, toy.workload, settings, dataset, store)
    assert many is not None
    assert many.distance(alone(toy.workload, settings)) <= FP32


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("workload", [toy.workload, toy.pair], ids=lambda w: w.name)
def test_ddp_and_fsdp_do_the_same_maths(
    strategy: str, workload: Any, store: Store, dataset: Dataset, alone: Any
) -> None:
    settings = config(dropout=0.4, ema=0.9, accumulate=2)
    many = train_with(2, workload, settings, dataset, store, strategy)
    assert many is not None
    assert many.distance(alone(workload, settings)) <= FP64


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ddp_and_fsdp_in_fp32_differ_by_rounding(
    strategy: str, store: Store, dataset: Dataset, alone: Any
) -> None:
    settings = config(precision="fp32")
    many = train_with(2, toy.workload, settings, dataset, store, strategy)
    assert many is not None
    assert many.distance(alone(toy.workload, settings)) <= FP32


@pytest.mark.parametrize("workers", [2, 4])
def test_two_objectives_do_not_depend_on_the_workers(
    workers: int, store: Store, dataset: Dataset, alone: Any
) -> None:
    settings = config(dropout=0.4)
    many = train_with(workers, toy.pair, settings, dataset, store)
    assert many is not None
    assert many.distance(alone(toy.pair, settings)) <= FP64


def test_accumulation_does_not_change_the_maths(store: Store, dataset: Dataset, alone: Any) -> None:
    whole = alone(toy.workload, config(dropout=0.4))
    assert whole.distance(alone(toy.workload, config(dropout=0.4, accumulate=3))) <= FP64
    both = train_with(2, toy.workload, config(dropout=0.4, accumulate=4), dataset, store)
    assert both is not None and both.distance(whole) <= FP64


class Killed(Exception):
    """Stands for a kill in these tests."""


class Mortal(toy.Task):
    """Dies when it is asked for its batch of a certain number."""

    at = -1

    def collate(self, items: Any) -> toy.Points:
        self.seen = getattr(self, "seen", -1) + 1
        if self.seen == Mortal.at:
            raise Killed
        return super().collate(items)


@pytest.mark.parametrize(
    ("workers", "strategy"), [(1, "exact"), (2, "exact"), (3, "exact"), (2, "ddp"), (2, "fsdp")]
)
def test_a_run_that_dies_goes_on_bit_for_bit(
    workers: int, strategy: str, store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(precision="fp32", dropout=0.4, ema=0.9, epochs=3, checkpoint_every=4, validate_every=1)
    mortal = dataclasses.replace(toy.workload, trainers={"supervised": f"{__name__}:Mortal"})
    whole = train_with(workers, mortal, settings, dataset, store, strategy)
    assert whole is not None
    name = f"mortal-{workers}-{strategy}"
    for dies_after in (3, 6, 3):  # before the first checkpoint, between two, and again
        monkeypatch.setattr(Mortal, "at", dies_after)
        train_with(workers, mortal, settings, dataset, store, strategy, name, dies=True)
    monkeypatch.setattr(Mortal, "at", -1)
    resumed = train_with(workers, mortal, settings, dataset, store, strategy, name)
    assert resumed is not None
    assert [attempt["from_step"] for attempt in resumed.run.attempts] == [0, 0, 6, 8]
    assert resumed.losses.tolist() == whole.losses.tolist()
    assert weights_sha256(resumed.weights) == weights_sha256(whole.weights)
    assert resumed.run.metrics.path.read_bytes() == whole.run.metrics.path.read_bytes()


def test_a_run_may_go_on_with_other_workers(
    store: Store, dataset: Dataset, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(dropout=0.4, checkpoint_every=10)
    mortal = dataclasses.replace(toy.workload, trainers={"supervised": f"{__name__}:Mortal"})
    monkeypatch.setattr(Mortal, "at", 25)
    train_with(4, mortal, settings, dataset, store, name="shrinks", dies=True)
    monkeypatch.setattr(Mortal, "at", -1)
    shrunk = train_with(2, mortal, settings, dataset, store, name="shrinks")
    assert shrunk is not None and shrunk.run.attempts[-1] == {"attempt": 2, "from_step": 24, "workers": 2}
    assert shrunk.distance(alone(toy.workload, settings)) <= FP64
