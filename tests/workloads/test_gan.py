"""The GAN, alone in one process: its networks, its losses, how it learns, what it answers."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.evaluation.scoring import score
from penstock.nn import Place, stand_at
from penstock.store import Store
from penstock.workload import Model, Refusal, Schema
from tests.learning import goes_on_bit_for_bit, learn
from workloads.gan import judge, workload
from workloads.gan.augment import DRAWS, diff_augment
from workloads.gan.config import Augment, Config, Data, Net
from workloads.gan.evaluate import GanEvaluator
from workloads.gan.losses import discriminator_loss, generator_loss, gradient_penalty
from workloads.gan.messages import GanAnswer, GanRequest
from workloads.gan.model import build
from workloads.gan.predict import GanPredictor, slerp
from workloads.gan.spectral import SpectralConv2d, SpectralLinear, largest_singular_value, normalised
from workloads.gan.task import GanTask, Pictures

SMOKE = workload.presets["smoke"]
SMALL = Net(width=8, widest=16, noise=8)
TINY = Config(data=Data(pictures=160), model=SMALL)
LABELS = Schema(("boot", "shirt", "bag"), {"channels": 1})
ALL = Augment(translation=0.125, cutout=0.5, colour=1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def tiny(made: Store) -> Dataset:
    """Drawn art, and a judge that saw next to nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "LEAST_SEEN", 64)
        return prepare(workload, "synthetic", TINY.data, made, mapper=in_process)


def untrained(config: Config = TINY, schema: Schema = LABELS) -> GanPredictor:
    torch.manual_seed(0)
    return GanPredictor(Model("gan", 0, config, schema, build(config, schema).state_dict()), "cpu")


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("size", [28, 32, 48, 64, 80, 128])
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_the_scalable_networks_fit_every_size(size: int, spectral_norm: bool) -> None:
    net = replace(SMALL, spectral_norm=spectral_norm)
    gan = build(Config(data=Data(size=size), model=net), Schema(("a", "b"), {"channels": 3}))
    pictures = gan.generator(torch.randn(2, 8), torch.eye(2))
    assert pictures.shape == (2, 3, size, size) and pictures.abs().max() <= 1
    assert gan.discriminator(pictures, torch.tensor([0, 1])).shape == (2,)


def test_dcgan_has_the_shape_of_the_tutorial() -> None:
    config = workload.presets["dcgan"]
    gan = build(config, LABELS)
    assert gan.generator.noise == 100 and gan.generator.classes == 0
    shapes = [tuple(p.shape) for p in gan.generator.parameters() if p.dim() > 1]
    assert shapes == [(12544, 100), (256, 128, 5, 5), (128, 64, 5, 5), (64, 1, 5, 5)]
    kinds = [type(layer).__name__ for layer in gan.discriminator.modules()][2:]
    assert kinds == ["Conv2d", "LeakyReLU", "Dropout"] * 2 + ["Flatten", "Linear"]
    assert config.optim.kind == "adam" and config.optim.lr == 1e-4
    pictures = gan.generator(torch.randn(2, 100), torch.zeros(2, 1))
    assert pictures.shape == (2, 1, 28, 28)
    assert gan.discriminator(pictures, torch.zeros(2, dtype=torch.int64)).shape == (2,)


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (8, 3, 4, 4), (12, 1)])
def test_the_spectral_norm_is_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    found, wanted = largest_singular_value(weight), torch.linalg.matrix_norm(weight.flatten(1), 2)
    torch.testing.assert_close(found, wanted)
    (ours,) = torch.autograd.grad(found, weight)
    (theirs,) = torch.autograd.grad(wanted, weight)
    torch.testing.assert_close(ours, theirs)
    assert float(torch.linalg.matrix_norm(normalised(weight.detach()).flatten(1), 2)) == pytest.approx(1)


def test_layers_of_spectral_norm_one_keep_no_state_between_calls() -> None:
    torch.manual_seed(0)
    gan = build(replace(TINY, model=replace(SMALL, spectral_norm=True)), LABELS)
    layers = [x for x in gan.modules() if isinstance(x, SpectralConv2d | SpectralLinear)]
    assert len(layers) == 5 and not list(gan.buffers())
    pictures, label = torch.randn(3, 1, 28, 28), torch.tensor([0, 1, 2])
    assert torch.equal(gan.discriminator(pictures, label), gan.discriminator(pictures, label))


# ---------------------------------------------------------------- losses and augmentation


def test_losses_are_the_published_ones() -> None:
    real, fake = torch.tensor([2.0, -0.5]), torch.tensor([-3.0, 0.5])
    assert discriminator_loss("hinge", real, fake) == pytest.approx(0 + 1.5 + 0 + 1.5)
    assert generator_loss("hinge", fake) == pytest.approx(2.5)
    cross = -torch.sigmoid(real).log().sum() - (1 - torch.sigmoid(fake)).log().sum()
    torch.testing.assert_close(discriminator_loss("nonsaturating", real, fake), cross)
    torch.testing.assert_close(generator_loss("nonsaturating", fake), -torch.sigmoid(fake).log().sum())


def test_the_gradient_penalty_is_half_the_squared_slope() -> None:
    class Slope(torch.nn.Module):
        def forward(self, pictures: Tensor, label: Tensor) -> Tensor:
            return 3 * pictures.flatten(1).sum(1)

    real, label = torch.randn(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64)
    assert gradient_penalty(Slope(), real, label) == pytest.approx(0.5 * 5 * 16 * 9)  # type: ignore[arg-type]
    assert gradient_penalty(Slope(), real[:0], label[:0]) == 0  # type: ignore[arg-type]


def test_augmentation_lets_the_gradient_through() -> None:
    pictures = torch.rand(4, 3, 28, 28, dtype=torch.float64).mul(2).sub(1).requires_grad_()
    draws = torch.rand(4, DRAWS, dtype=torch.float64)
    (slope,) = torch.autograd.grad(diff_augment(pictures, draws, ALL).sum(), pictures)
    step = 1e-3 * torch.randn_like(pictures)
    moved = diff_augment(pictures + step, draws, ALL).sum() - diff_augment(pictures, draws, ALL).sum()
    assert float(moved.detach()) == pytest.approx(float((slope * step).sum()), rel=1e-6)
    assert diff_augment(pictures[:0], draws[:0], ALL).shape == (0, 3, 28, 28)


def test_augmentation_does_the_same_to_real_and_generated_pictures() -> None:
    pictures, draws = torch.randn(6, 3, 28, 28), torch.rand(6, DRAWS)
    bent = diff_augment(pictures, draws, ALL)
    for i in range(6):
        alone = diff_augment(pictures[i : i + 1], draws[i : i + 1], ALL)
        torch.testing.assert_close(alone[0], bent[i])
    assert torch.equal(diff_augment(pictures, draws, Augment(translation=0, cutout=0)), pictures)


def test_a_translation_moves_and_a_cutout_blanks() -> None:
    pictures = torch.ones(1, 1, 8, 8)
    draws = torch.full((1, DRAWS), 0.999)  # right and down as far as it goes; the hole's centre in a corner
    moved = diff_augment(pictures, draws, Augment(translation=0.25, cutout=0))
    assert moved[0, 0, :2].sum() == moved[0, 0, :, :2].sum() == 0 and moved[0, 0, 2:, 2:].min() == 1
    cut = diff_augment(pictures, draws, Augment(translation=0, cutout=0.5))
    assert cut.sum() == 64 - 4 and cut[0, 0, -2:, -2:].sum() == 0


# ---------------------------------------------------------------- how it learns


def test_a_picture_takes_the_same_noise_in_any_company(tiny: Dataset) -> None:
    task = GanTask(TINY, tiny.schema)

    def batch(epoch: int, *which: int) -> Pictures:
        return task.collate(Items(tiny.train, which, ItemDraws(0, epoch)))

    many, few, later = batch(0, *range(20)), batch(0, 17, 3), batch(1, 17, 3)
    for name, parts in few._asdict().items():
        assert torch.equal(parts, getattr(many, name)[[17, 3]]), name
    assert not torch.equal(few.noise, later.noise) and not torch.equal(few.draws, later.draws)
    assert abs(float(many.noise.mean())) < 0.2 and abs(float(many.noise.std()) - 1) < 0.1
    assert not torch.equal(few.noise[:, 0], few.noise[:, 1]), "each turn has noise of its own"


def test_half_of_the_pictures_are_mirrored_where_it_is_asked_for(tiny: Dataset) -> None:
    items = Items(tiny.train, range(40), ItemDraws(0, 0))
    plain = GanTask(TINY, tiny.schema).collate(items).real
    flipped = GanTask(replace(TINY, augment=Augment(flip=True)), tiny.schema).collate(items).real
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, plain, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    assert 10 < sum(mirrored) < 30 and sum(mirrored) + sum(same) == 40


VARIANTS = [
    replace(TINY, model=replace(SMALL, r1=1.0)),
    replace(TINY, model=replace(SMALL, loss="hinge", spectral_norm=True, r1=0.0), augment=ALL),
    replace(TINY, model=replace(SMALL, conditional=False)),
    replace(workload.presets["dcgan"], data=TINY.data),
]


@pytest.mark.parametrize("config", VARIANTS)
def test_slices_of_a_batch_add_up_to_the_whole_however_uneven(config: Config, tiny: Dataset) -> None:
    torch.manual_seed(0)
    task = GanTask(config, tiny.schema)
    task.module.double()
    total = 5

    def gradients(*edges: tuple[int, int]) -> Sequence[Tensor]:
        found: list[Tensor] = []
        for objective in task.objectives():
            task.module.zero_grad()
            weight = 0.0
            for low, high in edges:
                stand_at(Place(0, 0, objective.name, low, high - low, total))
                batch = task.collate(Items(tiny.train, range(low, high), ItemDraws(0, 3)))
                loss, part = objective.loss(batch)
                weight += float(part)
                loss.backward()  # type: ignore[no-untyped-call]
            stand_at(None)
            assert weight == total
            found += [p.grad.clone() for p in objective.moves if p.grad is not None]
        return found

    whole = gradients((0, total))
    assert len(whole) == len(list(task.module.parameters()))
    for one, parts in zip(whole, gradients((0, 3), (3, 3), (3, total)), strict=True):
        torch.testing.assert_close(parts, one, rtol=0, atol=1e-9)


def test_each_objective_moves_its_own_network_only(tiny: Dataset) -> None:
    task = GanTask(TINY, tiny.schema)
    discriminator, generator = task.objectives()
    batch = task.collate(Items(tiny.train, range(4), ItemDraws(0, 0)))
    discriminator.loss(batch)[0].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in generator.moves)
    assert all(p.grad is not None for p in discriminator.moves)


def test_a_killed_run_goes_on_to_bitwise_the_same_weights(tiny: Dataset, made: Store) -> None:
    config = replace(TINY, train=replace(TINY.train, epochs=2, batch=16, checkpoint_every=4))
    goes_on_bit_for_bit(workload, config, tiny, made)


def test_smoke_learns_to_draw_what_it_is_asked_for(made: Store) -> None:
    dataset = prepare(workload, "synthetic", SMOKE.data, made, mapper=in_process)
    config = replace(SMOKE, train=replace(SMOKE.train, epochs=6))  # two less
    outcome, run = learn(workload, config, dataset, made, "smoke")
    assert len(run.metrics.loss_curve()) >= 3 * SMOKE.train.checkpoint_every
    snapshots = sorted((run.path / "snapshots").glob("*.png"))
    assert snapshots and Image.open(snapshots[-1]).size[0] >= 4 * 28
    model = Model("gan", 1, SMOKE, dataset.schema, outcome.weights)
    fresh = Model("gan", 1, SMOKE, dataset.schema, build(SMOKE, dataset.schema).state_dict())
    learned, before = (score(workload, one, dataset.test) for one in (model, fresh))
    print({name: round(value, 3) for name, value in learned.metrics.items()})
    assert learned.metrics["judge_accuracy"] > 0.75
    assert learned.metrics["class_fidelity"] > 0.22, "chance is 1/8"
    assert learned.metrics["memorised"] == 0
    assert learned.metrics["frechet_distance"] < before.metrics["frechet_distance"] / 2
    figures = GanEvaluator(SMOKE, dataset.schema).figures(learned.records, [], [])
    titles = ["Generated, by class", "Nearest training pictures", "Confusion matrix"]
    assert [figure.title for figure in figures] == titles


# ---------------------------------------------------------------- what it answers


def pixels(answer: Any) -> list[np.ndarray[Any, Any]]:
    assert isinstance(answer, GanAnswer)
    return [np.asarray(Image.open(io.BytesIO(raw)), np.int16) for raw in answer.images]


def test_a_seed_gives_the_same_picture_in_any_company() -> None:
    predictor = untrained()
    many, one, other = predictor.predict(
        [GanRequest(seed=10, count=5), GanRequest(seed=12), GanRequest(seed=12, label="bag")]
    )
    assert isinstance(many, GanAnswer) and isinstance(one, GanAnswer) and isinstance(other, GanAnswer)
    assert many.seeds == [10, 11, 12, 13, 14] and len(set(many.images)) == 5
    assert one.images[0] == many.images[2] and one.labels[0] == many.labels[2]
    assert other.labels == ["bag"]
    assert json.loads(many.model_dump_json())["picture"] is None
    assert GanAnswer.model_validate_json(many.model_dump_json()) == many


def test_a_label_is_drawn_and_an_unknown_one_refused() -> None:
    boots, wrong = untrained().predict([GanRequest(label="boot", count=3), GanRequest(label="boots")])
    assert isinstance(boots, GanAnswer) and boots.labels == ["boot"] * 3
    assert wrong == Refusal("no label 'boots'; did you mean boot?; known: boot, shirt, bag", "/label")
    none = replace(TINY, model=replace(SMALL, conditional=False))
    refused, plain = untrained(none).predict([GanRequest(label="boot"), GanRequest()])
    assert refused == Refusal("'boot': this model knows no classes; leave label out", "/label")
    assert isinstance(plain, GanAnswer) and plain.labels == [None]


def test_truncation_brings_pictures_closer_together() -> None:
    predictor = untrained()

    def spread(truncation: float) -> float:
        (answer,) = predictor.predict([GanRequest(count=12, label="bag", truncation=truncation)])
        return float(np.stack(pixels(answer)).std(0).mean())

    assert spread(0.01) < 0.1 * spread(1.0) and spread(0.5) < spread(1.0)


def test_an_interpolation_ends_at_its_two_seeds_and_moves_evenly() -> None:
    predictor = untrained()
    ends = predictor.predict([GanRequest(seed=3, label="shirt"), GanRequest(seed=9, label="shirt")])
    (path,) = predictor.predict([GanRequest(seed=3, to_seed=9, steps=7, label="shirt", picture=True)])
    assert isinstance(path, GanAnswer) and len(path.images) == 7 and path.labels == ["shirt"] * 7
    assert path.seeds == [3, None, None, None, None, None, 9]
    assert [path.images[0], path.images[-1]] == [e.images[0] for e in ends if isinstance(e, GanAnswer)]
    frames = pixels(path)
    steps = [np.abs(a - b).mean() for a, b in itertools.pairwise(frames)]
    assert max(steps) < 0.7 * np.abs(frames[0] - frames[-1]).mean() and min(steps) > 0
    assert path.picture is not None and Image.open(io.BytesIO(path.picture)).size == (3 * 29 - 1, 3 * 29 - 1)


def test_between_two_classes_the_label_is_open() -> None:
    predictor = untrained()
    found = predictor.predict([GanRequest(seed=seed) for seed in range(20)])
    by_label = {a.labels[0]: a.seeds[0] for a in found if isinstance(a, GanAnswer)}
    assert len(by_label) == 3, "a seed draws a class too"
    (path,) = predictor.predict([GanRequest(seed=by_label["bag"], to_seed=by_label["boot"], steps=4)])
    assert isinstance(path, GanAnswer) and path.labels == ["bag", None, None, "boot"]


def test_noise_between_two_seeds_keeps_its_length() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    middle = slerp(a, b, 0.5)
    assert np.linalg.norm(middle) == pytest.approx((np.linalg.norm(a) + np.linalg.norm(b)) / 2, rel=1e-5)
    np.testing.assert_allclose(slerp(a, b, 0.0), a, rtol=1e-5)
    np.testing.assert_allclose(slerp(a, a, 0.3), a, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"seed": -1}, "seed"),
        ({"count": 65}, "count"),
        ({"truncation": 0}, "truncation"),
        ({"truncation": 1.1}, "truncation"),
        ({"to_seed": 3, "steps": 1}, "steps"),
        ({"to_seed": 3, "count": 2}, "to_seed goes with steps, not with count"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_request_that_cannot_be_says_where(values: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        GanRequest.model_validate(values)
