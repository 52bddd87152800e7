"""How answers are scored, and what the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock.workload import Refusal, Row, Schema
from workloads.detection.average_precision import (
    MOST,
    SIZES,
    THRESHOLDS,
    Matched,
    Ranked,
    Said,
    Truth,
    average_precision,
    match,
    rank,
)
from workloads.detection.config import Config
from workloads.detection.messages import DetectionAnswer, DetectionRequest

if TYPE_CHECKING:
    from penstock.report import Figure

LOWEST = 0.01  # score of a box that is scored: the tail of the curve is made of unsure boxes
COLUMNS = {
    "scores": pa.list_(pa.float64()),
    "labels": pa.list_(pa.int64()),
    "hits": pa.list_(pa.int64()),
    "void": pa.list_(pa.int64()),
    "truths": pa.list_(pa.int64()),
}


class DetectionEvaluator:
    """COCO's average precisions: `map` (IoU 0.50 to 0.95), `map50`, `map75`, by area of the object
    (`map_small`: up to 32 x 32 pixels, `map_large`: from 96 x 96), and of each label (`map/<label>`,
    `map50/<label>`). Labels without objects are left out of the means."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.labels = schema.labels

    def requests(self, rows: Sequence[Row]) -> list[DetectionRequest]:
        return [DetectionRequest(image=row["image"], min_score=LOWEST, max_boxes=MOST) for row in rows]

    def records(self, rows: Sequence[Row], answers: Sequence[DetectionAnswer | Refusal]) -> pa.Table:
        matched = [
            match(
                Truth(row["boxes"], row["labels"], row["ignore"]),
                said(answer, self.labels),
                len(self.labels),
            )
            for row, answer in zip(rows, answers, strict=True)
        ]
        columns = {
            name: pa.array([getattr(one, name) for one in matched], kind) for name, kind in COLUMNS.items()
        }
        return pa.table(columns)

    def summarise(self, records: pa.Table) -> dict[str, float]:
        boxes = self.boxes(records)
        truths = np.tile(boxes.truths.reshape(-1, len(SIZES)).T, (len(THRESHOLDS), 1))  # [WAYS, labels]
        found = average_precision(rank(boxes.scores, boxes.labels, boxes.hits, boxes.void), truths)
        by_size = found.reshape(len(THRESHOLDS), len(SIZES), -1)
        whole = by_size[:, 0]
        sizes = {f"map_{size}": mean(by_size[:, k]) for k, size in enumerate(SIZES) if k}
        each = {f"map/{label}": mean(whole[:, k]) for k, label in enumerate(self.labels)}
        each50 = {f"map50/{label}": float(whole[0, k]) for k, label in enumerate(self.labels)}
        return {
            "map": mean(whole),
            "map50": mean(whole[0]),
            "map75": mean(whole[5]),
            **sizes,
            **each,
            **each50,
        }

    def figures(self, records: pa.Table, rows: Sequence[Row], answers: Sequence[Any]) -> Sequence[Figure]:
        from penstock.report import picture_figure
        from workloads.detection.draw import curves_figure, sheet, sizes_figure

        boxes = self.boxes(records)
        ranked = rank(boxes.scores, boxes.labels, boxes.hits, boxes.void, ways=[0])
        there = boxes.truths.reshape(-1, len(SIZES))[:, 0]
        metrics = self.summarise(records)
        drawn = [curves_figure(curves(ranked, there, self.labels))]
        drawn.append(sizes_figure({size: metrics[f"map_{size}"] for size in SIZES[1:]}))
        caption = "White frames: what is there. Coloured: what was said, with its score."
        if len(rows):
            shown = sheet(rows, [said(answer, self.labels) for answer in answers], self.labels)
            drawn.append(picture_figure("Test pictures", shown, caption))
        return drawn

    def boxes(self, records: pa.Table) -> Matched:
        """The boxes of all pictures, one after the other; `truths` summed over them [labels * SIZES]."""
        flat = {
            name: records.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
            for name in COLUMNS
        }
        flat["truths"] = flat["truths"].reshape(-1, len(self.labels) * len(SIZES)).sum(0)
        return Matched(**flat)


def said(answer: DetectionAnswer | Refusal, labels: Sequence[str]) -> Said:
    """An answer as arrays; a refusal says nothing."""
    boxes = [] if isinstance(answer, Refusal) else answer.boxes
    index = {label: k for k, label in enumerate(labels)}
    return Said(
        np.array([box.box for box in boxes], np.float64).reshape(-1, 4),
        np.array([index[box.label] for box in boxes], np.int64),
        np.array([box.score for box in boxes], np.float64),
    )


def curves(
    ranked: Ranked, there: np.ndarray[Any, Any], labels: Sequence[str]
) -> dict[str, tuple[float, Any, Any]]:
    """Label -> (AP, recalls, precisions) at IoU 0.5, for labels with objects; `ranked` of one way."""
    found = average_precision(ranked, there[None], 1)[0]
    result = {}
    for k, label in enumerate(labels):
        if there[k]:
            mine = ranked.labels[ranked.found] == k
            right = np.arange(1, mine.sum() + 1)
            precision = right / (right + ranked.wrong[mine])
            result[label] = (float(found[k]), right / there[k], precision)
    return result


def mean(values: np.ndarray[Any, Any]) -> float:
    """The mean of what is defined, NaN if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
