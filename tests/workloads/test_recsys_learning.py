"""How recsys learns: each rating from the others, slices that add up, exact resumption; what it beats."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.evaluation.scoring import score
from penstock.nn import Place, name_layers, one_thread, stand_at
from penstock.store import Store
from penstock.training.device import to_device
from penstock.training.world import World
from penstock.workload import Model
from tests.learning import goes_on_bit_for_bit, learn
from workloads.recsys import workload
from workloads.recsys.config import Config, Data, Net
from workloads.recsys.histories import Past, past_of, some
from workloads.recsys.neighbours import Neighbours
from workloads.recsys.sasrec import SasRec
from workloads.recsys.task import RecsysTask

PRESETS = {name: preset for name, preset in workload.presets.items() if name not in ("default", "gpu")}
KINDS = ("neighbours", "dense", "factors", "sasrec", "itemknn", "bias", "popularity")
DATA = Data(users=300, items=100, ratings=6_000)


pytestmark = pytest.mark.usefixtures("one_thread_each")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("recsys"))


@pytest.fixture(scope="module")
def synthetic(made: Store) -> Dataset:
    return prepare(workload, "synthetic", DATA, made, mapper=in_process)


def task_of(dataset: Dataset, kind: str, **net: Any) -> RecsysTask:
    """In fp64, with stirred numbers: what begins as zero would hide mistakes."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 16, "heads": 2, "layers": 1, "history": 30, **net}
    task = RecsysTask(Config(model=Net(kind=kind, **sizes)), dataset.schema)  # type: ignore[arg-type]
    task.module.double()
    with torch.no_grad():
        for parameter in task.module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return task


def batch_of(task: RecsysTask, items: Any) -> Any:
    """As a worker in fp64 sees it."""
    return to_device(task.collate(items), World.alone(), "fp64")


def items(dataset: Dataset, low: int, high: int, epoch: int = 0) -> Items:
    return Items(dataset.train, range(low, high), ItemDraws(0, epoch))


def by_hand(*rows: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], np.random.Generator]]:
    """Rows as a batch, each with a generator."""
    return [(row, np.random.default_rng(n)) for n, row in enumerate(rows)]


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("kind", [*KINDS, "next"])
def test_slices_of_a_batch_add_up_to_the_whole_however_uneven(kind: str, synthetic: Dataset) -> None:
    net = {"kind": "sasrec", "target": "next"} if kind == "next" else {"kind": kind}
    task = task_of(synthetic, **net)
    name_layers(task.module)
    task.module.train()

    def gradients(*edges: int) -> tuple[dict[str, Tensor], float]:
        task.module.zero_grad()
        weights = 0.0
        for low, high in itertools.pairwise(edges):
            stand_at(Place(0, 0, "loss", low, high - low, edges[-1]))
            total, weight = task.module.loss(batch_of(task, items(synthetic, low, high)))  # type: ignore[operator]
            total.backward()
            weights += float(weight)
        stand_at(None)
        named = task.module.named_parameters()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}, weights

    (whole, weight), (parts, weights) = gradients(0, 9), gradients(0, 4, 4, 5, 9)
    assert weight == weights > 9 and whole.keys() == parts.keys()
    assert kind in ("sasrec", "next") or whole.keys() == dict(task.module.named_parameters()).keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_no_users_and_users_with_one_rating_are_no_trouble(kind: str, synthetic: Dataset) -> None:
    task = task_of(synthetic, kind)
    row = synthetic.train.row(0)
    one = {**row, **{name: row[name][:1] for name in ("items", "ratings", "times")}}
    for rows in ([], [one], [one, synthetic.train.row(1), one]):
        task.module.zero_grad()
        loss, weight = task.module.loss(batch_of(task, by_hand(*rows)))  # type: ignore[operator]
        loss.backward()
        assert loss.isfinite() and (float(weight) > 0 or float(loss.detach()) == 0)
        gradients = [p.grad for p in task.module.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
    assert float(weight) > 3


def test_of_a_long_history_a_random_part_is_learned_each_time(synthetic: Dataset) -> None:
    row = {name: synthetic.train.row(0)[name] for name in ("items", "ratings", "times")}
    size = len(row["items"])
    assert size > 8
    seen: set[int] = set()
    for seed in range(20):
        part = some(row, 5, np.random.default_rng(seed))
        assert [len(values) for values in part.values()] == [5, 5, 5]
        place = [row["items"].tolist().index(item) for item in part["items"]]
        assert place == sorted(set(place)) and part["times"].tolist() == row["times"][place].tolist()
        seen.update(place)
    assert seen == set(range(size))
    assert some(row, size, np.random.default_rng(0)) is row
    task = task_of(synthetic, "bias", history=5)
    first, again, later = (task.histories(items(synthetic, 0, 6, epoch=epoch)) for epoch in (0, 0, 1))
    assert first.size.tolist() == [5] * 6 and torch.equal(first.item, again.item)
    assert not torch.equal(first.item, later.item)


@pytest.mark.parametrize("target", ["held_out", "next"])
@pytest.mark.parametrize("history", [4, 30])
def test_what_is_asked_of_a_sequence_is_not_in_it(target: Any, history: int, synthetic: Dataset) -> None:
    task = task_of(synthetic, "sasrec", target=target, history=history)
    rows = [synthetic.train.row(n) for n in range(12)]
    batch = task.collate(items(synthetic, 0, 12))
    assert set(batch.owner.tolist()) == set(range(12))
    for user, row in enumerate(rows):
        past = batch.item[user][batch.there[user]].tolist()
        asked = batch.target[batch.owner == user].tolist()
        own = row["items"].tolist()
        assert len(past) <= history and past == [item for item in own if item in past]
        if target == "next":
            place = batch.place[batch.owner == user].tolist()
            assert [*past[:1], *asked] == own[-history - 1 :]
            # each is asked at the place of the one before it
            assert [int(batch.item[user, at]) for at in place] == own[-history - 1 : -1]
        else:
            assert asked and not set(asked) & set(past) and {*asked, *past} <= set(own)
            assert len(asked) + len(past) == len(own) or len(past) == history


def test_a_sequence_does_not_see_what_comes_after_nor_its_padding(synthetic: Dataset) -> None:
    task = task_of(synthetic, "sasrec", target="next", history=12)
    task.module.eval()
    net: Any = task.module
    item, day = torch.arange(1, 9)[None], torch.arange(8.0, dtype=torch.float64)[None]
    there = torch.ones(1, 8, dtype=torch.bool)
    state = net.encode(item, day, there, net.table())
    changed = item.clone()
    changed[0, 5:] = 50
    other = net.encode(changed, day, there, net.table())
    torch.testing.assert_close(state[:, :5], other[:, :5])
    assert not torch.allclose(state[:, 5:], other[:, 5:])
    padded = net.encode(
        *(torch.cat([torch.zeros(1, 4, dtype=part.dtype), part], 1) for part in (item, day, there)),
        net.table(),
    )
    torch.testing.assert_close(padded[:, 4:], state)


# ---------------------------------------------------------------- losses


def without(past: Past, place: int) -> Past:
    """A user's history but for one rating."""
    others = torch.arange(len(past.item)) != place
    return past._replace(
        size=past.size - 1,
        item=past.item[others],
        rating=past.rating[others],
        day=past.day[others],
        owner=past.owner[others],
    )


def test_a_rating_is_predicted_as_if_it_had_never_been_given(synthetic: Dataset) -> None:
    """The loss of two users is that of `rate` with the history and the statistics without each rating."""
    task = task_of(synthetic, "neighbours", heads=4)
    module: Any = task.module
    batch = batch_of(task, items(synthetic, 3, 5))
    loss, weight = module.loss(batch)
    wanted, ratings = 0.0, 0
    first = float(synthetic.schema.fields["first"])
    for number in (3, 4):
        past = to_device(past_of([number], [synthetic.train.row(number)], first), World.alone(), "fp64")
        for place in range(len(past.item)):
            item, rating = int(past.item[place]), past.rating[place]
            kept = module.count.clone(), module.total.clone()
            module.count[item] -= 1
            module.total[item] -= rating - module.mean - module.own_bias[number]
            found = module.rate(
                without(past, place), past.item[place : place + 1], past.day[place : place + 1]
            )
            module.count[:], module.total[:] = kept
            wanted += float((found[0] - rating).detach() ** 2)
            ratings += 1
    assert weight == ratings > 10
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-6)  # kernels are worked out in fp32


def test_factors_predict_a_rating_without_it_too(synthetic: Dataset) -> None:
    task = task_of(synthetic, "factors")
    module: Any = task.module
    with torch.no_grad():
        module.user.weight.zero_()  # the table of users is learned from every rating
    first = float(synthetic.schema.fields["first"])
    past = to_device(past_of([3], [synthetic.train.row(3)], first), World.alone(), "fp64")
    loss, _ = module.loss(past)
    wanted = 0.0
    for place in range(len(past.item)):
        item, kept = int(past.item[place]), (module.count.clone(), module.total.clone())
        module.count[item] -= 1
        module.total[item] -= past.rating[place] - module.mean - module.own_bias[3]
        found = module.rate(without(past, place), past.item[place : place + 1], past.day[:1])
        module.count[:], module.total[:] = kept
        wanted += float((found[0] - past.rating[place]).detach() ** 2)
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-9)


def test_item_neighbours_do_not_know_the_user_they_are_asked_about(synthetic: Dataset) -> None:
    task = task_of(synthetic, "itemknn")
    module: Any = task.module
    row = synthetic.train.row(2)
    loss, weight = module.loss(batch_of(task, by_hand(row)))
    own, wanted = row["items"].tolist(), 0.0
    together = module.together.clone().double()
    together[np.ix_(own, own)] -= 1
    for item in own:
        others = [one for one in own if one != item]
        with torch.no_grad():
            points = module.likeness(torch.tensor(others), together[others]).sum(0) * module.sharpness.exp()
        allowed = [one for one in range(100) if one not in others]
        wanted -= float(points[allowed].log_softmax(0)[allowed.index(item)])
    assert weight == len(own) and float(loss.detach()) == pytest.approx(wanted, rel=1e-6)


def test_simple_models_begin_at_their_best(synthetic: Dataset) -> None:
    """Biases and popularity are worked out at prepare; training them moves nothing."""
    for kind in ("bias", "popularity"):
        task = RecsysTask(Config(model=Net(kind=kind)), synthetic.schema)
        task.module.double()
        module: Any = task.module
        loss, weight = module.loss(batch_of(task, items(synthetic, 0, len(synthetic.train))))
        loss.backward()
        slopes = torch.cat([p.grad.flatten() for p in module.parameters()])
        assert slopes.abs().max() / weight < 2e-3, kind


@pytest.mark.parametrize("target", ["next", "held_out"])
def test_a_sampled_softmax_with_many_negatives_is_nearly_the_full_one(
    target: str, synthetic: Dataset
) -> None:
    losses, slopes = [], []
    for drawn in (0, 4_000, 5):
        task = task_of(synthetic, "sasrec", target=target, negatives=drawn, dropout=0.0)
        module: Any = task.module
        loss, weight = module.loss(batch_of(task, items(synthetic, 0, 20)))
        loss.backward()
        losses.append(float(loss.detach()) / weight)
        slopes.append(module.blocks[0].qkv.weight.grad / weight)
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    near, far = ((slope - slopes[0]).norm() / slopes[0].norm() for slope in slopes[1:])
    assert near < 0.15 and far > 3 * near


# ---------------------------------------------------------------- whole runs


@pytest.mark.parametrize("kind", ["neighbours", "sasrec"])
def test_a_killed_run_goes_on_to_bitwise_the_same_weights(kind: Any, synthetic: Dataset, made: Store) -> None:
    store = Store.open(made.root / f"killed-{kind}")
    (store.datasets / synthetic.id).symlink_to(synthetic.path)
    preset = PRESETS["smoke" if kind == "neighbours" else kind]
    train = replace(preset.train, epochs=2, batch=50, ema=0.9, checkpoint_every=4)
    net = replace(preset.model, width=16, history=20)
    goes_on_bit_for_bit(workload, replace(preset, data=DATA, train=train, model=net), synthetic, store)


QUICK: dict[str, tuple[int, float, int]] = {  # epochs, learning rate, batch
    "bias": (1, 1e-4, 64),
    "popularity": (1, 1e-3, 64),
    "neighbours": (4, 1e-2, 40),
    "itemknn": (2, 2e-2, 64),
    "sasrec": (12, 3e-3, 32),
    "factors": (4, 1e-3, 32),
    "dense": (5, 3e-3, 32),
}


@pytest.fixture(scope="module")
def learned(synthetic: Dataset, made: Store) -> dict[str, tuple[Any, dict[str, float]]]:
    """Losses and metrics of every kind after a short run."""
    found = {}
    with one_thread():
        for kind, (epochs, rate, batch) in QUICK.items():
            preset = PRESETS["smoke" if kind == "neighbours" else kind]
            config = replace(
                preset,
                data=DATA,
                model=replace(preset.model, width=32, history=40),
                optim=replace(preset.optim, lr=rate),
                train=replace(
                    preset.train,
                    epochs=epochs,
                    batch=batch,
                    validate_every=100,
                    checkpoint_every=1_000,
                    publish="last",
                ),
            )
            outcome, run = learn(workload, config, synthetic, made, kind)
            model = Model("recsys", 1, config, synthetic.schema, outcome.weights)
            metrics = score(workload, model, synthetic.test).metrics
            print(kind, {name: round(metrics[name], 3) for name in ("rmse", "ndcg_at_10")})
            found[kind] = run.metrics.loss_curve(), metrics
    return found


@pytest.mark.parametrize("kind", ["neighbours", "itemknn", "sasrec", "factors", "dense"])
def test_every_model_learns(kind: str, learned: Any) -> None:
    losses, _ = learned[kind]
    few = max(len(losses) // 4, 2)
    assert np.mean(losses[-few:]) < 0.99 * np.mean(losses[:few])


def test_neighbours_predict_better_than_biases(learned: Any) -> None:
    rmse = {kind: metrics["rmse"] for kind, (_, metrics) in learned.items()}
    assert rmse["neighbours"] < rmse["bias"] - 0.02
    assert rmse["factors"] < rmse["bias"] and rmse["dense"] < 1.1, "the mean alone gets 1.2"
    assert rmse["sasrec"] == rmse["itemknn"] == rmse["popularity"], "they rank; ratings are the biases'"
    assert rmse["popularity"] == pytest.approx(rmse["bias"], abs=0.02)


def test_company_ranks_better_than_popularity(learned: Any) -> None:
    ndcg = {kind: metrics["ndcg_at_10"] for kind, (_, metrics) in learned.items()}
    for kind in ("itemknn", "sasrec", "neighbours"):
        assert ndcg[kind] > 1.3 * ndcg["popularity"], kind


def test_smoke_comes_well_below_the_biases(made: Store) -> None:
    """Biases get 0.81 on it, who knows every taste 0.4."""
    smoke = PRESETS["smoke"]
    dataset = prepare(workload, "synthetic", smoke.data, made, mapper=in_process)
    train = replace(smoke.train, epochs=5, validate_every=100)  # three less
    outcome, run = learn(workload, replace(smoke, train=train), dataset, made, "smoke")
    assert len(run.metrics.loss_curve()) >= 3 * smoke.train.checkpoint_every
    rows = dataset.test.rows(range(0, 600, 3))
    model = Model("recsys", 1, smoke, dataset.schema, outcome.weights)
    assert 0.4 < score(workload, model, rows).metrics["rmse"] < 0.75


def test_kinds_are_what_they_are_called(synthetic: Dataset) -> None:
    assert isinstance(task_of(synthetic, "neighbours").module, Neighbours)
    assert isinstance(task_of(synthetic, "sasrec").module, SasRec)
    assert {preset.model.kind for preset in PRESETS.values()} == set(KINDS)
