"""The image workloads on several workers: the maths of boxes and of two opponents does not mind how many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock import catalog
from penstock.config import Optim
from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.store import Store
from tests.cluster.forked import train_with

FP64 = 1e-9
NAMES = ("detection", "gan")

pytestmark = pytest.mark.forks


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module", params=NAMES)
def subject(request: pytest.FixtureRequest, store: Store) -> tuple[Any, Any, Dataset]:
    """A workload, its smoke preset cut to one epoch in fp64 (plain SGD: Adam's division makes noise of
    nothing large), and a small data set whose last batch leaves most workers empty."""
    workload = catalog.find(request.param)
    smoke = workload.presets["smoke"]
    data = replace(smoke.data, pictures=60)
    dataset = prepare(workload, "synthetic", data, store, mapper=in_process)
    batch = next(size for size in range(7, 40) if dataset.counts["train"] % size == 1)
    train = replace(
        smoke.train,
        epochs=2,
        batch=batch,
        precision="fp64",
        publish="last",
        validate_every=2,
        checkpoint_every=100,
    )
    optim = Optim(kind="sgd", lr=1e-3, momentum=0.9, clip=1.0)
    return workload, replace(smoke, data=data, train=train, optim=optim), dataset


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_do_not_change_the_result_in_fp64(
    workers: int, subject: tuple[Any, Any, Dataset], store: Store
) -> None:
    workload, config, dataset = subject
    one = train_with(1, workload, config, dataset, store, name=f"{workload.name}-1-{workers}")
    many = train_with(workers, workload, config, dataset, store)
    assert one is not None and many is not None
    print(f"{workload.name}, {workers} workers: {many.distance(one):.1e} in weights")
    assert len(one.losses) >= 4 and many.distance(one) <= FP64
    assert np.abs(many.losses - one.losses).max() <= FP64 * max(1.0, np.abs(one.losses).max())
