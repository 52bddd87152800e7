"""EASE, the linear memory of SASRec: against ridge regressions solved one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.store import Store
from workloads.recsys import workload
from workloads.recsys.catalogue import Catalogue, Histories
from workloads.recsys.config import MOST_ITEMS, Config, Data, Net
from workloads.recsys.ease import Ease
from workloads.recsys.sasrec import SasRec
from workloads.recsys.task import RecsysTask

RIDGE = 7.0
Rows = NDArray[np.float64]

pytestmark = pytest.mark.usefixtures("one_thread_each")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    store = Store.open(tmp_path_factory.mktemp("ease"))
    return prepare(workload, "synthetic", Data(users=80, items=60, ratings=900), store, mapper=in_process)


@pytest.fixture(scope="module")
def watched(world: Dataset) -> Rows:
    """Who watched what in the training split, [U, I]."""
    histories = Histories(world.schema)
    rows = np.zeros((len(histories.starts) - 1, len(Catalogue(world.schema))))
    for user, (start, end) in enumerate(zip(histories.starts, histories.starts[1:], strict=False)):
        rows[user, histories.rows["items"][start:end]] = 1
    return rows


def regressed(watched: Rows, history: Rows) -> Rows:
    """Each item from all others by its own ridge regression, applied to a history, [I]."""
    items = watched.shape[1]
    found = np.zeros(items)
    for item in range(items):
        others = np.arange(items) != item
        x = watched[:, others]
        weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(items - 1), x.T @ watched[:, item])
        found[item] = history[others] @ weights
    return found


def test_scores_are_those_of_one_ridge_regression_an_item(world: Dataset, watched: Rows) -> None:
    ease = Ease(world.schema, Catalogue(world.schema), RIDGE).double()
    history = watched[3] * (np.arange(watched.shape[1]) % 3 > 0)
    found = ease(torch.from_numpy(history[None]))[0].numpy()
    open_ = history == 0  # of a watched item eq. 8 leaves the weight of itself in
    np.testing.assert_allclose(found[open_], regressed(watched, history)[open_], atol=1e-5)
    assert np.ptp(found[open_]) > 0.05


def test_a_user_is_left_out_as_if_the_row_had_never_been_there(world: Dataset, watched: Rows) -> None:
    ease = Ease(world.schema, Catalogue(world.schema), RIDGE).double()
    users = [0, 7, 30]
    history = watched[users] * (np.arange(watched.shape[1]) % 2 > 0)
    found = ease(torch.from_numpy(history), torch.from_numpy(watched[users])).numpy()
    for place, user in enumerate(users):
        open_ = history[place] == 0
        expected = regressed(np.delete(watched, user, 0), history[place])
        np.testing.assert_allclose(found[place, open_], expected[open_], atol=1e-5)
        assert (
            np.abs(found[place] - ease(torch.from_numpy(history[place : place + 1]))[0].numpy()).max() > 1e-3
        )


def test_sasrec_learns_beside_a_memory_that_does_not_hold_the_user(world: Dataset, watched: Rows) -> None:
    """What is added to the scores is what a memory without that user says of the part that is told."""
    task = RecsysTask(Config(model=Net(kind="sasrec", width=16, heads=2, ridge=RIDGE)), world.schema)
    module = task.module.double()
    assert isinstance(module, SasRec) and module.ease is not None and module.trust is not None
    items = Items(world.train, range(4), ItemDraws(0, 1))
    batch = module.batch(items)
    row = world.train.column("user")[:4]
    prior = (module.prior(batch) - module.popularity).detach().numpy()
    for place, user in enumerate(row):
        history = np.zeros(watched.shape[1])
        history[batch.item[place][batch.there[place]].numpy()] = 1
        assert 0 < history.sum() < watched[user].sum()
        expected = regressed(np.delete(watched, user, 0), history) * module.trust.exp().item()
        np.testing.assert_allclose(prior[place][history == 0], expected[history == 0], atol=1e-4)


@pytest.mark.parametrize("net", [Net(kind="sasrec", ridge=0.0), Net(kind="sasrec", target="next")])
def test_no_memory_where_none_is_asked_for_or_the_order_counts(world: Dataset, net: Net) -> None:
    module = RecsysTask(Config(model=net), world.schema).module
    assert isinstance(module, SasRec) and module.ease is None
    assert not any("trust" in name or "ease" in name for name in module.state_dict())


def test_a_large_catalogue_has_no_memory() -> None:
    net = Net(kind="sasrec")
    assert net.remembers(MOST_ITEMS) and not net.remembers(MOST_ITEMS + 1)
