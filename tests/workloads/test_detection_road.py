"""Detection: the drawn road, and that colours alone do not tell what is on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.media import decode_image
from workloads.detection.config import Config, Data
from workloads.detection.evaluate import DetectionEvaluator
from workloads.detection.messages import Box, DetectionAnswer
from workloads.detection.road import LABELS
from workloads.detection.synthetic import Synthetic, scene_of


def test_a_scene_is_always_the_same_and_its_boxes_are_inside() -> None:
    for number in range(6):
        scene, again = scene_of(number, 160, 96), scene_of(number, 160, 96)
        assert np.array_equal(np.asarray(scene.picture), np.asarray(again.picture))
        assert np.array_equal(scene.boxes, again.boxes)
        assert (scene.boxes[:, :2] >= 0).all() and (scene.boxes[:, 2:] <= (160, 96)).all()
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
    assert not np.array_equal(scene_of(0, 160, 96).boxes, scene_of(1, 160, 96).boxes)


def test_a_detector_that_only_knows_colours_fails_on_the_drawn_road() -> None:
    data, source = Data(width=320, height=192, pictures=150), Synthetic()
    scan = source.scan("", data)
    rows = list(source.read(scan.items, data, scan.schema))
    known = [row for row, item in zip(rows, scan.items, strict=True) if item.split == "train"]
    asked = [row for row, item in zip(rows, scan.items, strict=True) if item.split == "test"]
    likely = likelihoods(known)
    evaluator = DetectionEvaluator(Config(), scan.schema)
    best = {}
    for threshold in (0.3, 0.7, 1.2):
        answers = [coloured(row["image"], likely, threshold) for row in asked]
        best[threshold] = evaluator.summarise(evaluator.records(asked, answers))["map50"]
    print(f"colour thresholds, AP50 on {len(asked)} drawn scenes: {best}")
    assert 0 < max(best.values()) < 0.3


BINS = 16  # of each colour


def colours(raw: bytes) -> Any:
    """The colour bin of each second pixel, both ways."""
    small = decode_image(raw).reduce(2)
    bins = np.asarray(small).astype(int) * BINS // 256
    return np.asarray((bins[..., 0] * BINS + bins[..., 1]) * BINS + bins[..., 2])


def likelihoods(rows: Sequence[Any]) -> np.ndarray[Any, Any]:
    """[labels, colours] log of how much more often a colour is inside boxes of a label than anywhere."""
    inside, anywhere = np.full((len(LABELS), BINS**3), 0.5), np.full(BINS**3, 2.0)
    for row in rows:
        seen = colours(row["image"])
        anywhere += np.bincount(seen.ravel(), minlength=BINS**3)
        for box, label in zip((row["boxes"] / 2).round().astype(int), row["labels"], strict=True):
            inside[label] += np.bincount(seen[box[1] : box[3], box[0] : box[2]].ravel(), minlength=BINS**3)
    share = inside / inside.sum(1, keepdims=True)
    return np.asarray(np.log(share / (anywhere / anywhere.sum())))


def coloured(raw: bytes, likely: np.ndarray[Any, Any], threshold: float) -> DetectionAnswer:
    """Boxes around connected areas of a label's colours."""
    seen, boxes = colours(raw), []
    for index, label in enumerate(LABELS):
        padded = np.pad(likely[index][seen], 1, mode="edge")
        score = np.mean(
            [padded[i : i + len(seen), j : j + seen.shape[1]] for i in range(3) for j in range(3)], 0
        )
        areas = connected(score > threshold)
        for area in np.unique(areas)[1:]:
            down, across = np.nonzero(areas == area)
            if len(down) >= 6:
                edges = [across.min(), down.min(), across.max() + 1, down.max() + 1]
                mean = float(score[down, across].mean())
                boxes.append(Box(label=label, score=mean, box=[2.0 * float(edge) for edge in edges]))
    boxes.sort(key=lambda box: -box.score)
    return DetectionAnswer(boxes=boxes, width=320, height=192, picture=None)


def connected(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A number for each connected area, 0 elsewhere."""
    areas = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        p = np.pad(areas, 1)
        near = [p[1:-1, 1:-1], p[:-2, 1:-1], p[2:, 1:-1], p[1:-1, :-2], p[1:-1, 2:]]
        grown = np.maximum.reduce(near) * mask
        if (grown == areas).all():
            return areas
        areas = grown
