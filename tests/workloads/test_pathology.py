"""Pathology, alone in one process: what it reads, how it learns, what it answers, what it refuses."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from penstock.config import build as build_config
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import ConfigError, DataError, ModelError
from penstock.store import Store
from penstock.workload import Model, Refusal, Schema
from tests.learning import goes_on_bit_for_bit, learn
from workloads.pathology import workload
from workloads.pathology.config import Augment, Config, Data, Net, positive
from workloads.pathology.data import ImageFolder
from workloads.pathology.evaluate import PathologyEvaluator, auroc, calibration_error
from workloads.pathology.messages import PathologyAnswer, PathologyRequest
from workloads.pathology.model import build
from workloads.pathology.predict import PathologyPredictor, places
from workloads.pathology.synthetic import tissue
from workloads.pathology.task import DRAWS, TURN, Patches, PathologyTask, bend, moves, sampling_grid

SMOKE = workload.presets["smoke"]
STILL = Augment(rotation=0, shift=0, zoom=0, flips=False, turns=False, stain=0, colour=0)
TINY = Config(data=Data(size=32), model=Net(width=8))


def jpeg(number: int = 0, size: tuple[int, int] = (48, 48)) -> bytes:
    """A picture of noise; every number gives another one."""
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def folder(root: Path, *classes: str, pictures: int = 8) -> Path:
    """Pictures in root/<class>/, for classes such as "train/cancer" or "cancer"."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for n in range(pictures):
            (root / name / f"slide{n % 3}_{n}.{'JPG' if n % 2 else 'jpeg'}").write_bytes(
                jpeg(100 * number + n)
            )
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("pathology"))


@pytest.fixture(scope="module")
def synthetic(made: Store) -> Dataset:
    return prepare(workload, "synthetic", SMOKE.data, made, mapper=in_process)


@pytest.fixture(scope="module")
def untrained() -> PathologyPredictor:
    """Knows two labels and patches of 48 pixels, and has learned nothing."""
    torch.manual_seed(0)
    schema = Schema(("cancer", "non_cancer"), {"patch": 48})
    return PathologyPredictor(Model("pathology", 0, TINY, schema, build(TINY, schema).state_dict()), "cpu")


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.size=20"], "data.size = 20: 32 to 512 pixels are possible"),
        (["data.unit=slide"], "data.unit = 'slide': put the slide or patient in (parentheses)"),
        (["data.unit=("], "data.unit = '(': not a regular expression"),
        (["model.width=20"], "model.width = 20: a multiple of 8 is needed"),
        (["model.weights=DEFAULT"], "model.weights = 'DEFAULT': deep has none; resnet… and vgg16 do"),
    ],
)
def test_a_setting_that_cannot_be_is_named(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        build_config(Config, None, None, words)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (("cancer", "non_cancer"), "cancer"),
        (("Normal", "tumour"), "tumour"),
        (("benign", "malignant"), "malignant"),
        (("0", "1"), "1"),
        (("nonnarcotic", "x"), "nonnarcotic"),
        (("healthy", "normal"), "healthy"),
    ],
)
def test_the_positive_label_is_the_first_not_named_like_normal_tissue(labels: Any, found: str) -> None:
    assert positive(Config(), Schema(labels)) == found
    assert positive(Config(positive=labels[0]), Schema(labels)) == labels[0]


def test_a_positive_label_that_does_not_exist_stops_the_run() -> None:
    with pytest.raises(ConfigError, match="positive = 'cancr': no such label; did you mean cancer"):
        PathologyTask(Config(positive="cancr"), Schema(("cancer", "non_cancer")))


# ---------------------------------------------------------------- what it reads


@pytest.mark.parametrize(
    ("places", "splits"),
    [
        (("a", "b"), {""}),
        (("train/a", "train/b"), {""}),
        (("train/a", "train/b", "test/a", "test/b"), {"train", "test"}),
        (("train/a", "train/b", "val/a", "val/b", "Test/a"), {"train", "test"}),
        (("train/a", "train/b", "val/a", "val/b"), {"train", "test"}),
        (("test/a", "test/b"), {"test"}),
    ],
)
def test_folders_hold_labels_and_split(places: tuple[str, ...], splits: set[str], tmp_path: Path) -> None:
    scan = ImageFolder().scan(str(folder(tmp_path, *places)), Data(unit=r"(slide\d)"))
    assert scan.schema.labels == ("a", "b") and scan.schema.fields == {"patch": 48}
    assert len(scan.items) == len(scan.files) == 8 * len(places)
    assert {item.split for item in scan.items} == splits
    assert {item.unit for item in scan.items} == {"slide0", "slide1", "slide2"}


def test_validation_pictures_train_where_there_is_a_test_folder(tmp_path: Path) -> None:
    scan = ImageFolder().scan(str(folder(tmp_path, "train/a", "val/a", "test/a")), Data())
    assert {(item.name.split("/")[0], item.split) for item in scan.items} == {
        ("train", "train"),
        ("val", "train"),
        ("test", "test"),
    }


def test_other_data_is_read_by_the_labels_of_the_model(tmp_path: Path) -> None:
    scan = ImageFolder().scan(str(folder(tmp_path, "b")), Data())
    (row,) = ImageFolder().read(scan.items[:1], Data(), Schema(("a", "b")))
    assert row["label"] == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("classes", "also", "said"),
    [
        ((), "", "no file or folder"),
        ((), ".", "holds no folders; each class is a folder of pictures"),
        (("a", "b"), "c", "class 'c' is empty; put .jpg or .png files there or remove it"),
        (("train/a", "train/b", "test/a"), "test/b", "class 'test/b' is empty"),
        (
            ("train/a", "train/b"),
            "extra",
            "folder 'extra' stands beside train/ or test/; classes belong inside them",
        ),
        (("a",), "", "only one class, 'a'; a classifier needs two"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named_in_one_line(
    classes: tuple[str, ...], also: str, said: str, tmp_path: Path, store: Store
) -> None:
    root = folder(tmp_path / "raw", *classes)
    if also:
        (root / also).mkdir(parents=True)
    with pytest.raises(DataError, match=re.escape(said)) as error:
        prepare(workload, f"imagefolder:{root}", Data(), store, mapper=in_process)
    assert "\n" not in str(error.value)


def test_a_truncated_picture_is_named_skipped_or_refused(
    tmp_path: Path, store: Store, untrained: PathologyPredictor
) -> None:
    root = folder(tmp_path / "raw", "a", "b")
    victim, good = root / "a" / "slide0_0.jpeg", jpeg(0)
    victim.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=re.escape("a/slide0_0.jpeg: the picture is truncated")):
        prepare(workload, f"imagefolder:{root}", Data(), store, mapper=in_process)
    dataset = prepare(workload, f"imagefolder:{root}", Data(), store, skip_bad=1, mapper=in_process)
    assert dataset.card["skipped"] == [{"item": "a/slide0_0.jpeg", "why": "the picture is truncated"}]
    asked = [PathologyRequest(image=raw) for raw in (good, victim.read_bytes(), good)]
    before, refused, after = untrained.predict(asked)
    assert refused == Refusal("the picture is truncated", "/image")
    assert before == after and isinstance(before, PathologyAnswer)


# ---------------------------------------------------------------- how it learns


def test_patches_stay_as_they_are_when_nothing_is_bent() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    draws = np.random.default_rng(1).random((5, DRAWS))
    torch.testing.assert_close(bend(raw, draws, STILL), torch.from_numpy(raw) / 255)
    assert bend(raw[:0], draws[:0], Augment()).shape == (0, 3, 32, 32)


def test_a_quarter_turn_is_exact() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    draws = np.full((4, DRAWS), 0.5)
    draws[:, TURN] = np.arange(4) / 4
    bent = bend(raw, draws, replace(STILL, turns=True))
    for quarter, patch in enumerate(bent):
        wanted = torch.from_numpy(np.rot90(raw[quarter], quarter, (1, 2)).copy()) / 255
        torch.testing.assert_close(patch, wanted, atol=1e-3, rtol=0)


def test_the_grid_is_torchs_own() -> None:
    where = torch.from_numpy(np.float32(moves(np.random.default_rng(0).random((7, DRAWS)), Augment())))
    torch.testing.assert_close(
        sampling_grid(where, 20), F.affine_grid(where, [7, 3, 20, 20], align_corners=False)
    )


def test_a_patch_is_augmented_the_same_in_any_company(synthetic: Dataset) -> None:
    task = PathologyTask(SMOKE, synthetic.schema)

    def patches(epoch: int, *which: int) -> Patches:
        return task.collate(Items(synthetic.train, which, ItemDraws(0, epoch)))

    many, few, later = patches(0, *range(33)), patches(0, 30, 7), patches(1, 30, 7)
    torch.testing.assert_close(many.patch[[30, 7]], few.patch, atol=1e-6, rtol=0)
    assert not torch.allclose(few.patch, later.patch, atol=0.1)
    assert many.patch.min() >= 0 and many.patch.max() <= 1


@pytest.mark.parametrize("kind", ["deep", "cnn"])
def test_slices_of_a_batch_add_up_to_the_whole_however_uneven(kind: str, synthetic: Dataset) -> None:
    torch.manual_seed(0)
    config = replace(SMOKE, model=Net(kind=kind, width=8, dropout=0.0))  # type: ignore[arg-type]
    task = PathologyTask(config, synthetic.schema)
    task.module.double()

    def gradients(*edges: tuple[int, int]) -> Iterable[torch.Tensor]:
        task.module.zero_grad()
        for low, high in edges:
            task.loss(task.collate(Items(synthetic.train, range(low, high), ItemDraws(0, 3))))[0].backward()
        return [p.grad.clone() for p in task.module.parameters() if p.grad is not None]

    for whole, parts in zip(gradients((0, 4)), gradients((0, 3), (3, 3), (3, 4)), strict=True):
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["resnet18", "vgg16"])
def test_pretrained_weights_without_network_are_a_one_line_error(kind: str, no_network: None) -> None:
    config = replace(TINY, model=Net(kind=kind, weights="DEFAULT"))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"model.weights = 'DEFAULT': .*leave model.weights empty") as error:
        build(config, Schema(("a", "b")), pretrained=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["deep", "cnn", "resnet18", "resnet50"])
def test_networks_from_scratch_do_not_look_at_the_rest_of_the_batch(kind: str) -> None:
    module = build(replace(TINY, model=Net(kind=kind)), Schema(("a", "b", "c")))  # type: ignore[arg-type]
    names = {type(layer).__name__ for layer in module.modules()}
    assert "GroupNorm" in names and not any("BatchNorm" in name for name in names)
    assert module.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_a_network_with_pretrained_weights_has_frozen_batchnorm_and_needs_no_download_to_answer() -> None:
    config = replace(TINY, model=Net(kind="resnet18", weights="DEFAULT"))
    module = build(config, Schema(("a", "b", "c")))
    names = {type(layer).__name__ for layer in module.modules()}
    assert "FrozenBatchNorm2d" in names and not names & {"BatchNorm2d", "GroupNorm"}
    assert module(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_a_killed_run_goes_on_to_bitwise_the_same_weights(synthetic: Dataset, made: Store) -> None:
    config = replace(SMOKE, train=replace(SMOKE.train, epochs=2, checkpoint_every=4))
    goes_on_bit_for_bit(workload, config, synthetic, made)


@pytest.fixture(scope="module")
def learned(synthetic: Dataset, made: Store) -> Model[Config]:
    """What the smoke preset learns from the synthetic tissue."""
    outcome, run = learn(workload, SMOKE, synthetic, made, "smoke")
    assert len(run.metrics.loss_curve()) >= 3 * SMOKE.train.checkpoint_every
    return Model("pathology", 1, SMOKE, synthetic.schema, outcome.weights)


def test_smoke_learns_tissue_that_a_colour_histogram_does_not_tell_apart(
    synthetic: Dataset, learned: Model[Config]
) -> None:
    evaluator = PathologyEvaluator(SMOKE, synthetic.schema)
    rows = synthetic.test.rows(range(len(synthetic.test)))
    answers = PathologyPredictor(learned, "cpu").predict(evaluator.requests(rows))
    records = evaluator.records(rows, answers)
    assert evaluator.summarise(records)["accuracy"] > 0.85
    titles = [figure.title for figure in evaluator.figures(records, rows, answers)]
    assert titles[0] == "Confusion matrix" and len(titles) == 3

    known = [synthetic.train.row(i) for i in range(len(synthetic.train))]
    train_set = np.stack([histogram(row["patch"].reshape(3, -1).T) for row in known])
    pictures = [Image.open(io.BytesIO(row["image"])).convert("RGB").resize((64, 64)) for row in rows]
    test_set = np.stack([histogram(np.asarray(picture).reshape(-1, 3)) for picture in pictures])
    said = logistic(train_set, np.array([row["label"] for row in known]), test_set)
    right = (said == [row["label"] for row in rows]).mean()
    print(f"colour histogram, accuracy on {len(rows)} generated patches: {right:.3f}")
    assert right < 0.7


def histogram(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Shares of 8 x 8 x 8 colours, square root, of pixels [n, 3]."""
    return np.sqrt(np.histogramdd(pixels, 8, [(0, 256)] * 3)[0].ravel() / len(pixels))


def logistic(known: Any, label: Any, asked: Any, decay: float = 0.01) -> np.ndarray[Any, Any]:
    """Labels 0 or 1 that logistic regression gives to rows of `asked`."""
    mean, spread = known.mean(0), known.std(0) + 1e-3
    x, y = torch.tensor((known - mean) / spread), torch.tensor(label, dtype=torch.float64)
    weight = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([weight], max_iter=200)

    def closure() -> torch.Tensor:
        search.zero_grad()
        scores = x @ weight[1:] + weight[0]
        loss = F.binary_cross_entropy_with_logits(scores, y) + decay * weight[1:].square().sum()
        loss.backward()
        return loss

    search.step(closure)  # type: ignore[no-untyped-call]
    found = torch.tensor((asked - mean) / spread) @ weight[1:].detach() + weight[0].item()
    return (found > 0).numpy()


# ---------------------------------------------------------------- what it answers


def test_a_patch_gives_class_probabilities_and_on_request_a_heat_map(untrained: PathologyPredictor) -> None:
    plain, painted = untrained.predict(
        [PathologyRequest(image=jpeg()), PathologyRequest(image=jpeg(), heatmap=True)]
    )
    assert isinstance(plain, PathologyAnswer) and isinstance(painted, PathologyAnswer)
    assert plain.label in ("cancer", "non_cancer") and sum(plain.probabilities.values()) == pytest.approx(1)
    assert plain.map is None and plain.heatmap is None and "not a medical device" in plain.note
    assert plain.probabilities == pytest.approx(painted.probabilities)
    sent = json.loads(painted.model_dump_json())
    again = PathologyAnswer.model_validate(sent)
    assert again.heatmap is not None and Image.open(io.BytesIO(again.heatmap)).size == (48, 48)


def test_tiles_cover_a_picture_to_its_borders() -> None:
    assert places(100, 48, 48) == ([0, 17, 35, 52], [0])
    left, top = places(4_000, 4_000, 48)
    assert len(left) * len(top) > 400 and max(np.diff(left)) <= 48 and left[-1] == 4_000 - 48 == top[-1]
    assert places(200, 30, 48)[1] == [0]


def test_a_picture_much_larger_than_a_patch_gives_a_map_that_finds_the_tumour(learned: Model[Config]) -> None:
    draw = np.random.default_rng(5)
    quarters = [[tissue(column == 1, draw) for column in (0, 0, 1, 1)] for _ in range(3)]
    file = io.BytesIO()
    Image.fromarray(np.vstack([np.hstack(row) for row in quarters])).save(file, "PNG")
    (answer,) = PathologyPredictor(learned, "cpu").predict(
        [PathologyRequest(image=file.getvalue(), heatmap=True)]
    )
    assert isinstance(answer, PathologyAnswer) and answer.map is not None and answer.heatmap is not None
    scores = np.array(answer.map.scores)
    assert answer.map.label == "tumour" and answer.map.tile == 96
    assert scores.shape == (len(answer.map.top), len(answer.map.left)) == (5, 7)
    assert scores[:, -2:].mean() > scores[:, :2].mean() + 0.4
    assert answer.probabilities["tumour"] == pytest.approx(scores.mean())
    assert Image.open(io.BytesIO(answer.heatmap)).size == (384, 288)


def answer(labels: tuple[str, ...], *scores: float) -> PathologyAnswer:
    return PathologyAnswer(
        label=labels[int(np.argmax(scores))], probabilities=dict(zip(labels, scores, strict=True))
    )


def test_metrics_of_two_labels_are_about_the_positive_one() -> None:
    labels = ("cancer", "normal")
    evaluator = PathologyEvaluator(Config(), Schema(labels))
    rows = [{"label": label} for label in (0, 0, 0, 1, 1)]
    said = [answer(labels, p, 1 - p) for p in (0.9, 0.8, 0.3, 0.4, 0.1)]
    metrics = evaluator.summarise(evaluator.records(rows, said))
    assert metrics["accuracy"] == pytest.approx(4 / 5) and metrics["auroc"] == pytest.approx(5 / 6)
    assert metrics["sensitivity"] == pytest.approx(2 / 3) and metrics["specificity"] == 1
    assert metrics["f1"] == pytest.approx(4 / 5) and metrics["macro_f1"] == pytest.approx(4 / 5)


def test_metrics_of_more_labels_are_means_and_undefined_ones_nan() -> None:
    labels = ("a", "b", "c")
    evaluator = PathologyEvaluator(Config(), Schema(labels))
    rows = [{"label": label} for label in (0, 1, 2, 2)]
    said = [answer(labels, 0.8, 0.1, 0.1), answer(labels, 0.2, 0.7, 0.1), answer(labels, 0.1, 0.1, 0.8)]
    records = evaluator.records(rows, [*said, Refusal("damaged")])
    metrics = evaluator.summarise(records)
    assert metrics["accuracy"] == 0.75 and metrics["sensitivity"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert metrics["f1"] == metrics["macro_f1"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert metrics["ece"] > 0.25, "a refusal counts as certain and wrong"
    assert len(evaluator.figures(records, rows, said)) == 3
    none = evaluator.summarise(records.slice(0, 0))
    assert none.keys() == metrics.keys() and all(value != value for value in none.values())


def test_auroc_counts_ties_half_and_calibration_is_the_gap_of_confidence() -> None:
    assert auroc(np.array([True, True, False, False]), np.array([0.5, 0.9, 0.5, 0.1])) == 7 / 8
    right = np.array([True] * 7 + [False] * 3)
    assert calibration_error(np.full(10, 0.9), right) == pytest.approx(0.2)


# ---------------------------------------------------------------- real tissue


@pytest.mark.real_data
def test_real_tissue_is_read_whole(real_data: Path, made: Store) -> None:
    source = f"imagefolder:{real_data}/pathology/colorectal"
    dataset = prepare(workload, source, Config().data, made, mapper=in_process)
    assert dataset.schema.labels == ("cancer", "non_cancer") and dataset.schema.fields == {"patch": 224}
    assert len(dataset.train) + len(dataset.validation) == 400 and len(dataset.test) == 120
    assert dataset.train.row(0)["patch"].shape == (3, 128, 128)
