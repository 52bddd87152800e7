"""Detection: how answers are scored, and what a predictor makes of its network's boxes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from penstock.capabilities import Frames
from penstock.evaluation.agreement import with_noise
from penstock.media import picture_flag
from penstock.workload import Model, Refusal, Schema
from workloads.detection import predict
from workloads.detection.average_precision import Said, Truth, match
from workloads.detection.config import Config, Data
from workloads.detection.draw import Drawn, with_boxes
from workloads.detection.evaluate import DetectionEvaluator
from workloads.detection.messages import Box, DetectionAnswer, DetectionRequest
from workloads.detection.predict import DetectionPredictor

LABELS = ("car", "person", "light", "bus")
EVALUATOR = DetectionEvaluator(Config(), Schema(LABELS))
COCO_NAMES = {
    "map": "AP_all",
    "map50": "AP_50",
    "map75": "AP_75",
    "map_small": "AP_small",
    "map_medium": "AP_medium",
    "map_large": "AP_large",
}


def answer(*boxes: tuple[str, float, Sequence[float]]) -> DetectionAnswer:
    found = [Box(label=label, score=score, box=list(box)) for label, score, box in boxes]
    return DetectionAnswer(boxes=found, width=500, height=500, picture=None)


def truth(*boxes: tuple[str, Sequence[float]], ignore: Sequence[int] = ()) -> dict[str, Any]:
    return {
        "boxes": np.array([box for _, box in boxes], np.float32).reshape(-1, 4),
        "labels": np.array([LABELS.index(label) for label, _ in boxes], np.int64),
        "ignore": np.array(ignore or [0] * len(boxes), np.uint8),
        "image": b"",
    }


def pictures(seed: int, count: int) -> tuple[list[dict[str, Any]], list[DetectionAnswer]]:
    """Pictures of objects of all sizes (never a bus), some of them ignored, and answers that find most of
    them, more or less; quarters of a pixel, so that no rounding decides. Odd seeds have tied scores."""
    draw = np.random.default_rng(seed)
    rows, answers = [], []
    for _ in range(count):
        many = int(draw.integers(0, 7))
        side = draw.choice([10, 30, 60, 150], (many, 1)) * draw.uniform(0.6, 1.4, (many, 2))
        corner = draw.uniform(0, 300, (many, 2))
        boxes = np.round(np.concatenate([corner, corner + side], 1) * 4) / 4
        labels, ignore = draw.integers(0, 3, many), draw.random(many) < 0.15
        rows.append({"boxes": np.float32(boxes), "labels": labels, "ignore": np.uint8(ignore), "image": b""})
        said = []
        for _ in range(int(draw.integers(0, 14))):
            corner = np.round(draw.uniform(0, 300, 2) * 4) / 4
            box, label = np.concatenate([corner, corner + draw.integers(5, 150, 2)]), draw.integers(0, 4)
            if many and draw.random() < 0.7:
                one = draw.integers(many)
                box = boxes[one] + np.round(draw.normal(0, 0.08, 4) * side[one].min() * 4) / 4
                label = labels[one] if draw.random() < 0.85 else label
            if box[0] < box[2] and box[1] < box[3]:
                said.append((LABELS[label], round(draw.random(), 1 if seed % 2 else 3), box.tolist()))
        answers.append(answer(*sorted(said, key=lambda box: -box[1])))
    return rows, answers


def coco_of(rows: Sequence[Any], answers: Sequence[DetectionAnswer]) -> dict[str, float]:
    """The same metrics by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster  # type: ignore[import-untyped]

    there: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for image, (row, one) in enumerate(zip(rows, answers, strict=True), start=1):
        for box, label, ignore in zip(row["boxes"].tolist(), row["labels"], row["ignore"], strict=True):
            wide, high = box[2] - box[0], box[3] - box[1]
            there.append(
                {
                    "id": len(there) + 1,
                    "image_id": image,
                    "category_id": int(label) + 1,
                    "bbox": [*box[:2], wide, high],
                    "area": wide * high,
                    "iscrowd": int(ignore),
                }
            )
        for found in one.boxes:
            left, top, right, bottom = found.box
            said.append(
                {
                    "image_id": image,
                    "category_id": LABELS.index(found.label) + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "score": found.score,
                }
            )
    images = [{"id": n + 1, "width": 500, "height": 500} for n in range(len(rows))]
    categories = [{"id": n + 1, "name": label} for n, label in enumerate(LABELS)]
    known = COCO({"images": images, "categories": categories, "annotations": there})
    judge = COCOeval_faster(known, known.loadRes(said), iouType="bbox", print_function=lambda *words: None)
    judge.run()
    precision = np.asarray(judge.eval["precision"])[:, :, :, 0, -1]  # thresholds, recalls, labels
    each = {f"map/{label}": defined(precision[:, :, k]) for k, label in enumerate(LABELS)}
    each50 = {f"map50/{label}": defined(precision[0, :, k]) for k, label in enumerate(LABELS)}
    whole = {ours: defined(judge.stats_as_dict[theirs]) for ours, theirs in COCO_NAMES.items()}
    return {**whole, **each, **each50}


def defined(values: Any) -> float:
    """The mean; -1, which COCO says where there are no objects, is NaN here."""
    known = np.asarray(values, float)
    known = known[known > -1]
    return float(known.mean()) if known.size else float("nan")


# ---------------------------------------------------------------- average precision


@pytest.mark.parametrize("seed", range(6))
def test_metrics_are_those_of_coco(seed: int) -> None:
    rows, answers = pictures(seed, [3, 10, 25][seed % 3])
    ours, theirs = EVALUATOR.summarise(EVALUATOR.records(rows, answers)), coco_of(rows, answers)
    assert ours.keys() == theirs.keys()
    assert 0.05 < ours["map"] < 0.9
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name
    assert np.isnan(ours["map/bus"]), "there is no bus to be found"


def test_metrics_are_those_of_torchmetrics() -> None:
    from torchmetrics.detection import MeanAveragePrecision

    rows, answers = pictures(8, 20)
    judge = MeanAveragePrecision(
        backend="faster_coco_eval",
        iou_type="bbox",
        class_metrics=True,
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),  # its own are rounded to 32 bits
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    judge.update(
        [
            {
                "boxes": torch.tensor([box.box for box in one.boxes]).reshape(-1, 4),
                "scores": torch.tensor([box.score for box in one.boxes]),
                "labels": torch.tensor([LABELS.index(box.label) for box in one.boxes], dtype=torch.int64),
            }
            for one in answers
        ],
        [
            {
                "boxes": torch.tensor(row["boxes"]),
                "labels": torch.tensor(row["labels"]),
                "iscrowd": torch.tensor(row["ignore"]),
            }
            for row in rows
        ],
    )
    theirs = judge.compute()
    ours = EVALUATOR.summarise(EVALUATOR.records(rows, answers))
    for name, other in {**{n: n for n in COCO_NAMES}, "map50": "map_50", "map75": "map_75"}.items():
        assert ours[name] == pytest.approx(float(theirs[other]), abs=1e-6), name
    for label, value in zip(theirs["classes"].tolist(), theirs["map_per_class"].tolist(), strict=True):
        if value >= 0:
            assert ours[f"map/{LABELS[label]}"] == pytest.approx(value, abs=1e-6)


def test_a_bootstrap_sample_scores_as_if_its_pictures_were_matched_anew() -> None:
    rows, answers = pictures(10, 12)
    records = EVALUATOR.records(rows, answers)
    drawn = np.random.default_rng(0).integers(0, 12, 12)
    ours = EVALUATOR.summarise(records.take(drawn))
    theirs = coco_of([rows[i] for i in drawn], [answers[i] for i in drawn])
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_a_refusal_finds_nothing_and_a_table_without_records_has_no_metric() -> None:
    row = truth(("car", [0, 0, 40, 40]))
    right = answer(("car", 0.9, [0, 0, 40, 40]))
    assert EVALUATOR.summarise(EVALUATOR.records([row], [right]))["map"] == pytest.approx(1)
    half = EVALUATOR.summarise(EVALUATOR.records([row, row], [right, Refusal("damaged", "/image")]))
    assert half["map50"] == pytest.approx(51 / 101), "recalls 0.00 to 0.50 of 0.00 to 1.00"
    none = EVALUATOR.summarise(EVALUATOR.records([], []))
    assert none.keys() == half.keys() and all(value != value for value in none.values())
    lost = EVALUATOR.summarise(EVALUATOR.records([row], [answer()]))
    assert lost["map50"] == 0 and lost["map50/car"] == 0 and lost["map50/bus"] != lost["map50/bus"]


def test_what_is_ignored_is_neither_to_be_found_nor_wrong_when_it_is() -> None:
    row = truth(("car", [0, 0, 40, 40]), ("car", [100, 100, 200, 200]), ignore=[0, 1])
    inside = [("car", 0.95 - k / 100, [100 + 20 * k, 110, 120 + 20 * k, 130]) for k in range(4)]
    found = answer(*inside, ("car", 0.5, [0, 0, 40, 40]))
    assert EVALUATOR.summarise(EVALUATOR.records([row], [found]))["map"] == pytest.approx(1)
    wrong = answer(("car", 0.95, [300, 300, 320, 320]), ("car", 0.5, [0, 0, 40, 40]))
    assert EVALUATOR.summarise(EVALUATOR.records([row], [wrong]))["map"] == pytest.approx(0.5)


def test_an_object_is_found_once() -> None:
    there = Truth(np.array([[0.0, 0, 40, 40]]), np.array([0]), np.array([0]))
    said = Said(np.array([[0.0, 0, 40, 40], [0, 0, 40, 39]]), np.array([0, 0]), np.array([0.6, 0.8]))
    matched = match(there, said, len(LABELS))
    assert matched.scores.tolist() == [0.8, 0.6]
    assert [bool(hit & 1) for hit in matched.hits] == [True, False]
    assert matched.truths.reshape(-1, 4)[0].tolist() == [1, 0, 1, 0], "it is of medium size"


def test_records_bear_the_noise_that_explains_ties() -> None:
    records = EVALUATOR.records(*pictures(2, 5))
    (noisy,) = with_noise(records, draws=1)
    assert noisy.schema == records.schema and not noisy["scores"].equals(records["scores"])
    assert EVALUATOR.summarise(noisy).keys() == EVALUATOR.summarise(records).keys()


def test_rows_are_asked_for_all_boxes_that_count() -> None:
    (request,) = EVALUATOR.requests([{"image": photo()}])
    assert request.min_score == 0.01 and request.max_boxes == 100 and not request.picture


def test_the_report_shows_curves_sizes_and_pictures() -> None:
    rows, answers = pictures(4, 6)
    records = EVALUATOR.records(rows, answers)
    for number, row in enumerate(rows):
        row["image"] = photo(number, (500, 500))
    figures = EVALUATOR.figures(records, rows, [*answers[:5], Refusal("damaged", "/image")])
    assert [bool(figure.svg) for figure in figures] == [True, True, False]
    assert "car" in figures[0].svg and Image.open(io.BytesIO(figures[2].png)).width > 1000
    assert len(EVALUATOR.figures(EVALUATOR.records([], []), [], [])) == 2


# ---------------------------------------------------------------- the predictor


def photo(number: int = 0, size: tuple[int, int] = (200, 100), form: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


class Stub(torch.nn.Module):
    """A network that says the same of every picture; boxes on a canvas of 320 x 192."""

    def detect(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        assert images.shape == (1, 3, 192, 320) and images.dtype == torch.float32
        assert images.min() >= 0 and images.max() <= 1
        boxes = torch.tensor([[16.0, 8, 160, 80], [-9, 100, 999, 999], [0, 170, 320, 190], [32, 16, 64, 32]])
        return [(boxes, torch.tensor([0.9, 0.6, 0.5, 0.2]), torch.tensor([0, 1, 2, 3]))]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> DetectionPredictor:
    monkeypatch.setattr(predict, "build", lambda config, schema: Stub())
    config = Config(data=Data(width=320, height=192))
    return DetectionPredictor(Model("detection", 0, config, Schema(LABELS), {}), "cpu")


def only(predictor: DetectionPredictor, **asked: Any) -> DetectionAnswer:
    (found,) = predictor.predict([DetectionRequest(image=photo(), **asked)])
    assert isinstance(found, DetectionAnswer)
    return found


def test_boxes_come_back_in_pixels_of_the_picture_and_inside_it(stub: DetectionPredictor) -> None:
    found = only(stub)  # 200 x 100 fills 320 x 160 of the canvas: 1.6 to 1
    assert (found.width, found.height, found.picture) == (200, 100, None)
    assert [box.label for box in found.boxes] == ["car", "person", "bus"], "one lies below the picture"
    assert found.boxes[0].box == pytest.approx([10, 5, 100, 50])
    assert found.boxes[1].box == pytest.approx([0, 62.5, 200, 100])
    assert found.boxes[0].score == pytest.approx(0.9)


def test_only_as_many_boxes_as_asked_for_and_only_sure_ones(stub: DetectionPredictor) -> None:
    assert [box.label for box in only(stub, min_score=0.5).boxes] == ["car", "person"]
    assert [box.label for box in only(stub, max_boxes=1).boxes] == ["car"]
    for wrong in ({"min_score": 1.1}, {"max_boxes": 0}, {"max_boxes": 301}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DetectionRequest(image=photo(), **wrong)


def test_a_turned_picture_is_answered_upright(stub: DetectionPredictor) -> None:
    file, turn = io.BytesIO(), Image.Exif()
    turn[0x0112] = 6
    Image.new("RGB", (100, 200)).save(file, "JPEG", exif=turn)
    (found,) = stub.predict([DetectionRequest(image=file.getvalue())])
    assert isinstance(found, DetectionAnswer) and (found.width, found.height) == (200, 100)


def test_on_request_the_picture_comes_back_with_its_boxes(stub: DetectionPredictor) -> None:
    assert picture_flag(DetectionRequest) == "picture"
    found = only(stub, picture=True)
    again = DetectionAnswer.model_validate_json(found.model_dump_json())
    assert again.picture is not None
    shown = np.asarray(Image.open(io.BytesIO(again.picture)))
    assert shown.shape == (100, 200, 3)
    plain = np.asarray(Image.open(io.BytesIO(photo())))
    assert 0.02 < (shown != plain).any(2).mean() < 0.5
    assert found.boxes == only(stub).boxes


@pytest.mark.parametrize("size", [(3, 2), (20, 300), (1200, 900)])
def test_boxes_can_be_drawn_on_any_picture(size: tuple[int, int]) -> None:
    box = Drawn([0, 0, size[0], size[1] / 2], "traffic light 0.99", 12)
    assert with_boxes(Image.new("RGB", size), [box, box]).size == size


def test_frames_are_answered_one_by_one_and_a_bad_one_is_refused(stub: DetectionPredictor) -> None:
    taken = []

    def camera() -> Iterator[DetectionRequest]:
        for number, raw in enumerate((photo(1), photo(2)[:200], photo(3))):
            taken.append(number)
            yield DetectionRequest(image=raw)

    assert isinstance(stub, Frames)
    answers = stub.frames(camera())
    assert isinstance(next(answers), DetectionAnswer) and taken == [0]
    assert next(answers) == Refusal("the picture is truncated", "/image") and taken == [0, 1]
    assert isinstance(next(answers), DetectionAnswer) and list(answers) == []


def test_a_demo_picture_of_our_own_is_shipped() -> None:
    file = Path(predict.__file__).with_name("road.jpg")
    assert file.stat().st_size < 60_000 and Image.open(file).size == (640, 384)
