"""What generated pictures are judged by: the judge, the distances, the test against copies, style."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import DataError, ModelError
from penstock.evaluation import summarise
from penstock.evaluation.bootstrap import intervals
from penstock.evaluation.scoring import join, records_of
from penstock.store import Store
from penstock.workload import Refusal, Schema
from workloads.gan import judge, style, workload
from workloads.gan.config import Config, Data, Net
from workloads.gan.data import png
from workloads.gan.distances import (
    Moments,
    cubic,
    frechet,
    frechet_distance,
    inner_mean,
    kernel_distance,
    moments,
)
from workloads.gan.evaluate import GanEvaluator
from workloads.gan.judge import Reference, fit, judged, train_judge
from workloads.gan.messages import GanAnswer
from workloads.gan.neighbours import ASSET, Neighbours, keep, memorised
from workloads.gan.style import Style, vgg19
from workloads.gan.synthetic import art
from workloads.gan.task import GanTask

PICTURES = Data(pictures=240)


@pytest.fixture(scope="module")
def art_set(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Drawn art, and a judge that saw it for about two seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "LEAST_SEEN", 64 * 40)
        store = Store.open(tmp_path_factory.mktemp("gan-measures"))
        return prepare(workload, "synthetic", PICTURES, store, mapper=in_process)


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    return dataset.test.rows(range(len(dataset.test)))


def answer(raw: bytes) -> GanAnswer:
    return GanAnswer(images=[raw], labels=[None], seeds=[0], picture=None)


# ---------------------------------------------------------------- the judge


def test_the_judge_is_the_same_every_time(art_set: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "LEAST_SEEN", 64 * 3)
    monkeypatch.setattr(judge, "PASSES", 1)
    torch.manual_seed(1)
    first = fit(art_set.train, PICTURES, art_set.schema)
    torch.manual_seed(2)
    after = torch.rand(1)
    torch.manual_seed(2)
    again = fit(art_set.train, PICTURES, art_set.schema)
    assert first == again
    assert torch.equal(torch.rand(1), after), "it leaves torch's own generator alone"


def test_the_judge_knows_real_pictures_it_has_not_seen(art_set: Dataset) -> None:
    evaluator = GanEvaluator(Config(data=PICTURES), art_set.schema)
    rows = rows_of(art_set)
    said = judged(evaluator.reference.judge, evaluator.pixels([row["image"] for row in rows]))[1]
    assert (said == [row["label"] for row in rows]).mean() > 0.4, "chance is 1/8"


def test_pictures_without_classes_are_judged_by_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "LEAST_SEEN", 64 * 30)
    monkeypatch.setattr(judge, "PASSES", 1)
    slope = np.linspace(0, 255, 28, dtype=np.uint8)
    images = np.random.default_rng(0).integers(0, 40, (64, 1, 28, 28), np.uint8)
    images = np.minimum(255, images + slope[:, None]).astype(np.uint8)  # darker above
    turner = train_judge(images, np.zeros(64, np.int64), 0)
    for k in range(4):
        turned = np.ascontiguousarray(np.rot90(images, k, (2, 3)))
        assert (judged(turner, turned)[1] == k).mean() > 0.9


def test_too_few_pictures_and_a_missing_judge_are_errors(art_set: Dataset) -> None:
    class Few:
        def __len__(self) -> int:
            return 3

    with pytest.raises(DataError, match="3 pictures to train on; 8 are needed"):
        fit(Few(), PICTURES, art_set.schema)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"the data set has no judge\.safetensors; prepare it again"):
        Reference(Schema(("a",), {"channels": 1}), 28)


# ---------------------------------------------------------------- distances


def test_the_frechet_distance_of_two_gaussians_is_the_known_one() -> None:
    reference = Moments(np.zeros(3), np.diag([4.0, 9.0, 1.0]))
    mean, covariance = np.array([1.0, 2.0, 0.0]), np.diag([1.0, 9.0, 16.0])
    wanted = 1 + 4 + (2 - 1) ** 2 + (3 - 3) ** 2 + (1 - 4) ** 2
    assert frechet(mean, covariance, reference) == pytest.approx(wanted)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    turned = Moments(np.zeros(3), turn @ reference.covariance @ turn.T)
    assert frechet(turn @ mean, turn @ covariance @ turn.T, turned) == pytest.approx(wanted)


@pytest.mark.parametrize("size", [150, 600])
def test_the_size_of_a_sample_does_not_bias_its_distance(size: int) -> None:
    random = np.random.default_rng(0)
    mix = random.standard_normal((16, 16)) / 4
    reference = Moments(np.zeros(16), np.eye(16))
    shift = np.full(16, 0.3)
    true = frechet(shift, mix.T @ mix, reference)
    plain, corrected = [], []
    for _ in range(40):
        sample = random.standard_normal((size, 16)) @ mix + shift
        of_it = moments(sample)
        plain.append(frechet(of_it.mean, of_it.covariance, reference))
        corrected.append(frechet_distance(sample, np.ones(size), reference))
    noise = np.std(corrected) / np.sqrt(len(corrected))
    assert np.mean(corrected) == pytest.approx(true, abs=3 * noise)
    if size == 150:
        assert np.mean(plain) > true + 5 * noise, "what the correction is for"


def test_pictures_drawn_twice_do_not_move_a_distance() -> None:
    random = np.random.default_rng(0)
    real = random.standard_normal((500, 16))
    sample = random.standard_normal((300, 16)) + 0.2
    across, inner = cubic(sample, real).mean(1), inner_mean(real, np.ones(500))
    reference, once = moments(real), np.ones(300)
    whole = (
        frechet_distance(sample, once, reference),
        kernel_distance(sample, once, across, inner),
    )
    drawn = []
    for _ in range(200):
        index, count = np.unique(random.integers(0, 300, 300), return_counts=True)
        weight = count.astype(float)
        drawn.append(
            (
                frechet_distance(sample[index], weight, reference),
                kernel_distance(sample[index], weight, across[index], inner),
            )
        )
    for value, resampled in zip(whole, np.array(drawn).T, strict=True):
        low, high = np.quantile(resampled, [0.025, 0.975])
        assert low < value < high
        assert resampled.mean() == pytest.approx(value, abs=0.25 * resampled.std())


def test_kid_is_near_zero_between_samples_of_the_same_and_large_otherwise() -> None:
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 400, 8))
    inner = inner_mean(b, np.ones(400))

    def kid(sample: np.ndarray[Any, Any]) -> float:
        return kernel_distance(sample, np.ones(400), cubic(sample, b).mean(1), inner)

    assert abs(kid(a)) < 0.05 and kid(a + 1) > 1


# ---------------------------------------------------------------- copies


def test_a_planted_copy_is_found_and_a_new_picture_is_not() -> None:
    known = np.stack([art(n, 28).transpose(2, 0, 1) for n in range(60)])
    known = np.concatenate([known, known[:1]])  # one of them twice
    neighbours = Neighbours(Schema(assets={ASSET: keep(known)}))
    assert len(neighbours.thumbnails) == 60
    lighter = np.array([2, -2])[:, None, None, None]
    copies = np.clip(known[[0, 17]] + lighter, 0, 255).astype(np.uint8)
    fresh = np.stack([art(n, 28).transpose(2, 0, 1) for n in range(1000, 1040)])
    near = neighbours.nearest(np.concatenate([copies, fresh]))
    found = memorised(near.first, near.second)
    assert found[:2].all() and found[2:].mean() < 0.05
    assert np.array_equal(neighbours.thumbnails[near.place[1]], known[17])
    assert near.first[0] == pytest.approx(2, abs=0.5)


def test_many_large_pictures_are_kept_as_thumbnails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.gan.neighbours.MOST_BYTES", 100_000)
    pictures = np.random.default_rng(0).integers(0, 256, (90, 3, 64, 64), np.uint8)
    neighbours = Neighbours(Schema(assets={ASSET: keep(pictures)}))
    assert neighbours.thumbnails.shape == (90, 3, 16, 16) and neighbours.whole.shape == (64, 3, 64, 64)
    near = neighbours.nearest(pictures[:5])
    assert memorised(near.first, near.second).all()


# ---------------------------------------------------------------- the evaluator


def test_real_pictures_score_as_real_and_copies_of_training_pictures_as_memorised(art_set: Dataset) -> None:
    evaluator = GanEvaluator(Config(data=PICTURES), art_set.schema)
    rows = rows_of(art_set)
    asked = evaluator.requests(rows)
    assert [r.seed for r in asked] == [row["seed"] for row in rows]
    assert asked[0].label == art_set.schema.labels[rows[0]["label"]]
    metrics = evaluator.summarise(evaluator.records(rows, [answer(row["image"]) for row in rows]))
    assert metrics["class_fidelity"] == metrics["judge_accuracy"] and metrics["memorised"] < 0.05
    assert metrics["frechet_distance"] == pytest.approx(metrics["frechet_distance_real"])
    assert metrics["coverage"] == 1
    stolen = [answer(png(art_set.train.row(i)["image"])) for i in range(len(rows))]
    assert evaluator.summarise(evaluator.records(rows, stolen))["memorised"] > 0.95
    grey = answer(png(np.full((3, 28, 28), 128, np.uint8)))
    poor = evaluator.summarise(evaluator.records(rows, [grey] * len(rows)))
    assert poor["frechet_distance"] > 5 * abs(metrics["frechet_distance"]) and poor["coverage"] <= 1 / 8


def test_a_refusal_counts_as_wrong_and_intervals_hold_their_values(art_set: Dataset) -> None:
    evaluator = GanEvaluator(Config(data=PICTURES), art_set.schema)
    rows = rows_of(art_set)
    answers = [*(answer(row["image"]) for row in rows[:-4]), *[Refusal("no")] * 4]
    records = join([records_of(evaluator, rows, answers)], evaluator)
    assert summarise(evaluator, records)["class_fidelity"] <= 1 - 4 / len(rows)
    for name, found in intervals(evaluator, records, n=100).items():
        assert found["value"] is not None and found["low"] is not None and found["high"] is not None
        assert found["low"] - 1e-9 <= found["value"] <= found["high"] + 1e-9, name
    nothing = evaluator.summarise(evaluator.records(rows[:5], [Refusal("no")] * 5))
    assert np.isnan(nothing["frechet_distance"]) and nothing["class_fidelity"] == 0


def test_a_model_without_classes_is_asked_for_none(art_set: Dataset) -> None:
    config = Config(data=PICTURES, model=Net(conditional=False))
    evaluator = GanEvaluator(config, art_set.schema)
    rows = rows_of(art_set)
    assert {request.label for request in evaluator.requests(rows)} == {None}
    metrics = evaluator.summarise(evaluator.records(rows, [answer(row["image"]) for row in rows]))
    assert "class_fidelity" not in metrics and "coverage" in metrics


# ---------------------------------------------------------------- style


def layers_like_vgg19() -> nn.Module:
    """VGG19's first layers with random weights and few channels; as many layers as it has."""
    torch.manual_seed(0)
    made: list[nn.Module] = []
    channels = 3
    for step in (4, 4, "pool", 8, 8, "pool", 8, 8, 8, 8, "pool", 16, 16, 16, 16, "pool", 16, 16):
        if isinstance(step, str):
            made.append(nn.MaxPool2d(2))
        else:
            made += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU()]
            channels = step
    return nn.Sequential(*made).requires_grad_(False)


def test_style_distance_is_zero_for_the_same_picture_and_grows_with_unlikeness() -> None:
    same = np.stack([art(4, 28).transpose(2, 0, 1)])
    measure = Style(layers_like_vgg19(), same)
    noise = np.random.default_rng(0).integers(0, 256, (3, 3, 28, 28), np.uint8)
    near, far = measure.distances(same), measure.distances(noise)
    assert near == pytest.approx(0, abs=1e-6) and far.shape == (3,) and (far > 100 * near.max()).all()
    assert measure.distances(noise[:0]).shape == (0,)
    assert Style(layers_like_vgg19(), same[:, :1]).distances(same[:, :1]) == pytest.approx(0, abs=1e-6)


def test_style_distance_is_measured_where_it_is_asked_for(
    art_set: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "vgg19", layers_like_vgg19)
    evaluator = GanEvaluator(Config(data=PICTURES, style=True), art_set.schema)
    rows = rows_of(art_set)
    metrics = evaluator.summarise(evaluator.records(rows, [answer(row["image"]) for row in rows]))
    assert (
        metrics["style_distance"] == pytest.approx(metrics["style_distance_real"])
        and metrics["style_distance"]
    )


def test_style_without_weights_stops_the_run_in_one_line(art_set: Dataset, no_network: None) -> None:
    vgg19.cache_clear()
    with pytest.raises(ModelError, match=r"style = true: .*VGG19.*no route.*leave style out") as error:
        GanTask(Config(data=PICTURES, style=True), art_set.schema)
    assert "\n" not in str(error.value)
