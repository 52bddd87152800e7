"""How answers are scored, and what the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock.workload import Refusal, Row, Schema
from workloads.pathology.config import Config, positive
from workloads.pathology.messages import PathologyAnswer, PathologyRequest

if TYPE_CHECKING:
    from penstock.report import Figure

BINS = 15  # of confidence, for the calibration error


class PathologyEvaluator:
    """Of two labels, `auroc`, `sensitivity`, `specificity` and `f1` are about the positive one; of more
    they are means over the labels, each against the rest (those that the data holds)."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.labels = schema.labels
        self.positive = self.labels.index(positive(config, schema))

    def requests(self, rows: Sequence[Row]) -> list[PathologyRequest]:
        return [PathologyRequest(image=row["image"]) for row in rows]

    def records(self, rows: Sequence[Row], answers: Sequence[PathologyAnswer | Refusal]) -> pa.Table:
        truth = np.array([row["label"] for row in rows], np.int64)
        said = [-1 if isinstance(a, Refusal) else self.labels.index(a.label) for a in answers]
        scores = np.empty((len(rows), len(self.labels)))
        for i, answer in enumerate(answers):
            if isinstance(answer, Refusal):  # as wrong as can be, and sure of it
                scores[i] = np.arange(len(self.labels)) != truth[i]
            else:
                scores[i] = [answer.probabilities[label] for label in self.labels]
        columns = {f"score/{label}": scores[:, k] for k, label in enumerate(self.labels)}
        return pa.table({"label": truth, "said": pa.array(said, pa.int64()), **columns})

    def summarise(self, records: pa.Table) -> dict[str, float]:
        truth, said, scores = self.arrays(records)
        size = len(self.labels)
        classes = [self.positive] if size == 2 else range(size)
        is_it, told = truth[:, None] == np.arange(size), said[:, None] == np.arange(size)
        hits, found, there = (is_it & told).sum(0), told.sum(0), is_it.sum(0)
        f1 = ratio(2 * hits, found + there)
        right = truth == said
        return {
            "accuracy": mean(right),
            "auroc": mean([auroc(is_it[:, k], scores[:, k]) for k in classes]),
            "sensitivity": mean(ratio(hits, there)[classes]),
            "specificity": mean(ratio((~is_it & ~told).sum(0), (~is_it).sum(0))[classes]),
            "f1": mean(f1[classes]),
            "macro_f1": mean(f1),
            "ece": calibration_error(scores.max(1, initial=0), right),
        }

    def figures(self, records: pa.Table, rows: Sequence[Row], answers: Sequence[Any]) -> Sequence[Figure]:
        from penstock.report import calibration_figure, confusion_figure, roc_figure

        truth, said, scores = self.arrays(records)
        labels = list(self.labels)
        drawn = [confusion_figure(truth, said, labels)]
        if len(labels) == 2:  # roc_figure takes the second of two labels as the positive one
            last = self.positive
            drawn.append(
                roc_figure(truth == last, scores[:, [1 - last, last]], [labels[1 - last], labels[last]])
            )
        else:
            drawn.append(roc_figure(truth, scores, labels))
        return [*drawn, calibration_figure(scores.max(1), truth == said)]

    def arrays(self, records: pa.Table) -> tuple[Any, Any, Any]:
        """Labels [n], said labels [n] (-1: refused) and probabilities [n, labels]."""
        scores = np.stack([records[f"score/{label}"].to_numpy() for label in self.labels], 1)
        return records["label"].to_numpy(), records["said"].to_numpy(), scores


def auroc(positive: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> float:
    """The chance that a positive item scores above another one, ties half; NaN if all are alike."""
    above, below = scores[positive], np.sort(scores[~positive])
    if not len(above) or not len(below):
        return float("nan")
    wins = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(wins.sum() / (2 * len(above) * len(below)))


def calibration_error(confidence: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """The mean gap between confidence and accuracy over bins of equal width, by their share of items."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right - confidence, BINS)
    return float(np.abs(gaps).sum() / len(right)) if len(right) else float("nan")


def ratio(part: np.ndarray[Any, Any], whole: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """part / whole, NaN where there is nothing."""
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))


def mean(values: Any) -> float:
    """The mean of what is defined, NaN if nothing is."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")
