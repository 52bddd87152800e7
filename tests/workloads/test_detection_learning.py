"""Detection, alone in one process: how pictures are bent, what networks lose and find, how they learn."""

from __future__ import annotations

import re
import typing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from penstock.config import build as build_config
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import ConfigError, ModelError
from penstock.store import Store
from penstock.training.weights import start_from
from penstock.workload import Schema
from tests.learning import goes_on_bit_for_bit, learn
from workloads.detection import workload
from workloads.detection.augment import COLOURS, begin, bend, recolour, window
from workloads.detection.cells import STRIDES, cells, overlaps, owners, picture_loss
from workloads.detection.compact import Compact
from workloads.detection.config import Augment, Config, Kind, Net
from workloads.detection.model import build
from workloads.detection.task import DetectionTask, Pictures
from workloads.detection.torchvision_nets import KeyedSampler

SMOKE = workload.presets["smoke"]
STILL = Augment(
    shrink=0, grow=0, aspect=0, flip=0, mosaic=0, hue=0, saturation=0, brightness=0, contrast=0, light=0
)
SCHEMA = Schema(("car", "light", "bike"))
TORCHVISION: list[Any] = [kind for kind in typing.get_args(Kind) if kind != "compact"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("detection"))


@pytest.fixture(scope="module")
def synthetic(made: Store) -> Dataset:
    return prepare(workload, "synthetic", SMOKE.data, made, mapper=in_process)


def row_with(*boxes: tuple[float, float, float, float], size: tuple[int, int] = (96, 64)) -> dict[str, Any]:
    """A train row whose boxes are filled with 200, on 50."""
    image = np.full((3, size[1], size[0]), 50, np.uint8)
    for left, top, right, bottom in boxes:
        image[:, int(top) : int(bottom), int(left) : int(right)] = 200
    edges = np.array(boxes, np.float32).reshape(-1, 4)
    return {"image": image, "boxes": edges, "labels": np.arange(len(boxes))}


def draws(number: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(number))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.width=100"], "data.width = 100: a multiple of 32 from 64 to 2048 is needed"),
        (["augment.height=-32"], "augment.height = -32: a multiple of 32 is needed, or 0 for the canvas"),
        (["model.width=20"], "model.width = 20: a multiple of 8 is needed"),
        (["model.weights=DEFAULT"], "model.weights = 'DEFAULT': compact has none"),
    ],
)
def test_a_setting_that_cannot_be_is_named(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        build_config(Config, None, None, words)


# ---------------------------------------------------------------- bent pictures


def test_a_still_window_of_the_whole_picture_is_the_picture() -> None:
    row = row_with((10, 8, 40, 30), (0, 0, 5, 64))
    bent = bend(row, lambda draw: row, draws(), (96, 64), STILL)
    assert torch.equal(bent.image, torch.from_numpy(row["image"]))
    assert np.array_equal(bent.boxes, row["boxes"]) and np.array_equal(bent.labels, row["labels"])


def test_boxes_stay_on_what_they_frame_however_a_picture_is_bent() -> None:
    row, others = row_with((10, 8, 40, 30)), row_with((60, 20, 80, 60), (4, 40, 30, 62))
    augment = replace(SMOKE.augment, flip=0.5, mosaic=0.5)
    seen = 0
    for number in range(60):
        bent = bend(row, lambda draw: others, draws(number), (96, 64), augment)
        assert bent.image.shape == (3, 64, 96) and len(bent.boxes) == len(bent.labels)
        for left, top, right, bottom in bent.boxes:
            assert left >= 0 and top >= 0 and right <= 96 and bottom <= 64
            inside = bent.image[0, round(top + 1) : round(bottom - 1), round(left + 1) : round(right - 1)]
            seen += 1
            if inside.numel():
                assert inside.float().mean() > 170
    assert seen > 60


def test_an_aimed_window_holds_its_box_whole() -> None:
    augment = replace(STILL, aim=1.0)
    for number in range(40):
        bent = window(row_with((70, 40, 90, 60)), draws(number), (32, 32), augment)
        assert (bent.boxes[:, 2:] - bent.boxes[:, :2]).tolist() == [[20, 20]]


def test_a_window_around_a_box_too_large_for_it_lies_on_the_box() -> None:
    for share in (0.0, 0.5, 1.0):
        assert 20 <= begin(100, 30, (20, 80), share) <= 50
    assert begin(100, 200, None, 0.0) == 0 and begin(100, 200, None, 1.0) == -100


def test_a_picture_without_boxes_is_bent_too() -> None:
    bent = bend(row_with(), lambda draw: row_with(), draws(), (96, 64), SMOKE.augment)
    assert bent.boxes.shape == (0, 4) and len(bent.labels) == 0


def test_recolouring_by_nothing_changes_nothing_and_by_something_stays_in_range() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    numbers = np.random.default_rng(0).random((4, COLOURS))
    torch.testing.assert_close(recolour(images, numbers, STILL), images / 255, atol=2e-3, rtol=0)
    changed = recolour(images, numbers, Augment())
    assert changed.min() >= 0 and changed.max() <= 1 and (changed - images / 255).abs().mean() > 0.02
    grey = recolour(images, np.full((4, COLOURS), 0.0), replace(STILL, saturation=1.0))
    torch.testing.assert_close(grey[:, 0], grey[:, 2], atol=2e-3, rtol=0)


def test_a_picture_is_bent_the_same_in_any_company_partners_included(synthetic: Dataset) -> None:
    config = replace(SMOKE, augment=replace(SMOKE.augment, mosaic=1.0))
    task = DetectionTask(config, synthetic.schema)

    def pictures(epoch: int, *which: int) -> Pictures:
        return task.collate(Items(synthetic.train, which, ItemDraws(0, epoch)))

    many, few, later = pictures(0, *range(9)), pictures(0, 7, 3), pictures(1, 7, 3)
    torch.testing.assert_close(many.images[[7, 3]], few.images, atol=1e-6, rtol=0)
    assert torch.equal(many.boxes[7], few.boxes[0]) and many.keys[3] == few.keys[1]
    assert not torch.allclose(few.images, later.images, atol=0.1) and few.keys != later.keys


# ---------------------------------------------------------------- networks


def scene(dtype: torch.dtype = torch.float64) -> tuple[Tensor, list[Tensor], list[Tensor], list[int]]:
    """Three small pictures, the middle one without an object."""
    images = torch.rand(3, 3, 64, 96, dtype=dtype, generator=torch.Generator().manual_seed(0))
    boxes = [[[10, 10, 60, 40], [70, 40, 73, 47]], [], [[20, 30, 80, 60]]]
    truths = [torch.tensor(each, dtype=torch.float32).view(-1, 4) for each in boxes]
    labels = [torch.tensor(each, dtype=torch.int64) for each in ([0, 2], [], [1])]
    return images, truths, labels, [5, 6, 7]


@pytest.mark.parametrize("kind", ["compact", *TORCHVISION])
def test_every_network_loses_the_same_in_any_slices_and_finds_boxes(kind: Any) -> None:
    torch.manual_seed(0)
    config = Config(model=Net(kind=kind, width=8, rois=8, proposals=8))
    # depthwise convolutions in fp64 take minutes on a CPU
    exact = "mobilenet" not in kind
    module = build(config, SCHEMA).to(torch.float64 if exact else torch.float32)
    assert not any("BatchNorm" in type(layer).__name__ for layer in module.modules())
    images, boxes, labels, keys = scene(next(module.parameters()).dtype)

    def loss(low: int, high: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(low + 10 * high)  # another worker draws other numbers from the global generator
        cut = slice(low, high)
        return module.losses(images[cut], boxes[cut], labels[cut], keys[cut])

    whole, parts = loss(0, 3), [loss(0, 1), loss(1, 1), loss(1, 3)]
    assert sum(part[0].item() for part in parts) == pytest.approx(
        whole[0].item(), rel=1e-9 if exact else 1e-4
    )
    assert sum(part[1].item() for part in parts) == whole[1].item() > 0
    parts[1][0].backward()  # type: ignore[no-untyped-call]
    parts[2][0].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    found = module.eval().detect(images)
    assert len(found) == 3 and module.detect(images[:0]) == []
    for box, score, label in found:
        assert len(box) == len(score) == len(label) <= 300
        assert (score.diff() <= 0).all() and (score >= 0.01).all()
        assert (label < 3).all() and (label >= 0).all() and (box >= 0).all() and box[:, 2].le(96).all()


def test_a_key_decides_what_faster_rcnn_samples() -> None:
    sampler = KeyedSampler(8, 0.25)
    labels = torch.tensor([1] * 20 + [0] * 60 + [-1] * 20)

    def sampled(key: int) -> tuple[list[int], list[int]]:
        sampler.seed(key)
        (positive,), (negative,) = sampler([labels])
        return positive.nonzero()[:, 0].tolist(), negative.nonzero()[:, 0].tolist()

    positive, negative = sampled(3)
    assert (len(positive), len(negative)) == (2, 6)
    assert max(positive) < 20 <= min(negative) and max(negative) < 80
    assert sampled(3) == (positive, negative) != sampled(4)


@pytest.mark.parametrize("kind", ["fasterrcnn_mobilenet_v3_large_fpn", "retinanet_resnet50_fpn"])
def test_pretrained_weights_without_network_are_a_one_line_error(kind: Any, no_network: None) -> None:
    config = Config(model=Net(kind=kind, weights="DEFAULT"))
    with pytest.raises(ModelError, match=r"model.weights = 'DEFAULT': .*leave model.weights empty") as error:
        build(config, SCHEMA, pretrained=True)
    assert "\n" not in str(error.value)


def test_pretrained_weights_are_taken_over_but_for_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import detection

    net = Net(kind="ssdlite320_mobilenet_v3_large", weights="DEFAULT")
    torch.manual_seed(1)
    published = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict()
    weights: Any = detection.SSDLite320_MobileNet_V3_Large_Weights.DEFAULT
    monkeypatch.setattr(type(weights), "get_state_dict", lambda self, **options: dict(published))
    module = build(Config(model=net), SCHEMA, pretrained=True)
    own = module.state_dict()
    taken = {name: own.get(f"inner.model.{name}", torch.empty(0)) for name in published}
    same = {name for name, value in published.items() if torch.equal(taken[name], value)}
    assert "backbone.features.0.0.0.weight" in same and len(same) > 0.6 * len(published)
    assert own["inner.model.head.classification_head.module_list.0.1.weight"].shape[0] == 6 * 4
    names = {type(layer).__name__ for layer in module.modules()}
    assert "FrozenBatchNorm2d" in names and not names & {"BatchNorm2d", "GroupNorm"}
    answering = build(Config(model=net), SCHEMA)  # needs no download
    assert answering.state_dict().keys() == own.keys()


def test_another_label_set_starts_from_all_but_the_last_layers() -> None:
    config = Config(model=Net(width=8))
    fresh = start_from(build(config, Schema(("a", "b"))), build(config, SCHEMA).state_dict())
    assert fresh == [f"heads.{n}.what.1.{name}" for n in range(3) for name in ("weight", "bias")]


# ---------------------------------------------------------------- the compact one's cells


def test_cells_lie_in_the_middle_of_their_pixels() -> None:
    here = cells(torch.zeros(1, 3, 64, 96))
    assert len(here.centre) == 64 * 96 // 16 + 64 * 96 // 64 + 64 * 96 // 256
    assert here.centre[[0, 1, 24]].tolist() == [[2, 2], [6, 2], [2, 6]]
    assert here.centre[-1].tolist() == [88, 56] and set(here.stride.tolist()) == set(STRIDES)


def test_every_object_has_a_cell_of_its_own_however_small() -> None:
    here = cells(torch.zeros(1, 3, 256, 320))
    boxes = torch.tensor([[8.0, 8, 10, 12], [40, 40, 100, 90], [30, 30, 300, 250], [200, 100, 206, 118]])
    owner = owners(boxes, here)
    for n, (box, stride) in enumerate(zip(boxes, (4, 8, 16, 4), strict=True)):
        mine = owner == n
        assert mine.any() and set(here.stride[mine].tolist()) == {stride}
        reach = (here.centre[mine] - (box[:2] + box[2:]) / 2).abs().amax(0)
        assert (reach <= 1.5 * stride).all()


def test_where_objects_share_a_cell_the_smaller_one_has_it() -> None:
    owner = owners(torch.tensor([[0.0, 0, 30, 30], [12, 12, 18, 18]]), cells(torch.zeros(1, 3, 64, 64)))
    grid = owner[: 16 * 16].view(16, 16)
    assert grid[3, 3] == 1 and grid[2, 2] == 0


def test_overlaps_are_those_worked_out_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2]])
    b = torch.tensor([[1.0, 0, 3, 2], [2, 0, 3, 1], [0, 0, 2, 2]])
    iou, general = overlaps(a, b)
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 0, 1]))
    torch.testing.assert_close(general, torch.tensor([1 / 3, -1 / 3, 1]))


def test_a_perfect_answer_loses_nearly_nothing() -> None:
    images = torch.zeros(1, 3, 64, 64)
    truth, label = torch.tensor([[8.0, 8, 40, 36]]), torch.tensor([1])
    here = cells(images)
    mine = owners(truth, here) == 0
    scores = torch.full((len(mine), 2), -20.0)
    scores[mine, 1] = 20.0
    found = truth.expand(len(mine), 4)
    assert picture_loss(scores, found, here, truth, label) < 1e-3
    assert picture_loss(-scores, found, here, truth, label) > 1
    assert picture_loss(scores, found + 9, here, truth, label) > 1
    assert Compact(Net(width=8), 2)(images)[0].shape == (1, len(mine), 2)


# ---------------------------------------------------------------- learning


def test_a_killed_run_goes_on_to_bitwise_the_same_weights(synthetic: Dataset, made: Store) -> None:
    train = replace(SMOKE.train, epochs=1, checkpoint_every=4, batch=6)
    goes_on_bit_for_bit(workload, replace(SMOKE, train=train), synthetic, made)


def test_smoke_learns_to_find_objects(synthetic: Dataset, made: Store) -> None:
    _, run = learn(workload, SMOKE, synthetic, made, "smoke")
    curve = run.metrics.loss_curve()
    assert len(curve) >= 3 * SMOKE.train.checkpoint_every
    assert np.mean(curve[-10:]) < 0.85 * np.mean(curve[:10])
