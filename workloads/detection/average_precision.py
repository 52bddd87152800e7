"""Average precision as COCO defines it, in two steps: each picture is matched once, then any set of pictures
is summed up quickly, so that a bootstrap costs no second matching.

T thresholds of IoU (0.50 to 0.95) times S ranges of area give T x S = 40 ways to match; one bit for each.
https://cocodataset.org/#detection-eval
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
SIZES = ("all", "small", "medium", "large")
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])  # square pixels, both included
WAYS = len(THRESHOLDS) * len(SIZES)  # bit = threshold * len(SIZES) + size
MOST = 100  # boxes of one class in one picture that count, the surest


class Truth(NamedTuple):
    boxes: NDArray[Any]  # [m, 4] left, top, right, bottom
    labels: NDArray[Any]  # int [m]
    ignore: NDArray[Any]  # [m]; not 0: neither to be found nor wrong when it is


class Said(NamedTuple):
    boxes: NDArray[Any]  # [n, 4]
    labels: NDArray[Any]  # int [n]
    scores: NDArray[Any]  # float [n]


class Matched(NamedTuple):
    """One picture's boxes by class and falling score (what COCO would not count is left out)."""

    scores: NDArray[np.float64]  # [k]
    labels: NDArray[np.int64]  # [k]
    hits: NDArray[np.int64]  # [k]; bit: it found an object
    void: NDArray[np.int64]  # [k]; bit: neither right nor wrong
    truths: NDArray[np.int64]  # [classes * len(SIZES)] objects to be found


def match(truth: Truth, said: Said, classes: int) -> Matched:
    """Who found what in one picture, for every way to match."""
    order = np.argsort(-said.scores, kind="stable")
    order = order[np.argsort(said.labels[order], kind="stable")]
    truths = np.zeros((classes, len(SIZES)), np.int64)
    parts: list[tuple[NDArray[Any], ...]] = []
    for label in np.unique(np.concatenate([truth.labels, said.labels])).astype(int):
        there = np.flatnonzero(truth.labels == label)
        told = order[said.labels[order] == label][:MOST]
        ignored = truth.ignore[there] != 0
        outside = out_of_range(area(truth.boxes[there]))
        truths[label] = (~(ignored | outside)).sum(1)
        hits, void = pairs(said.boxes[told], truth.boxes[there], ignored, outside)
        parts.append((said.scores[told], np.full(len(told), label), hits, void))
    empty = (np.empty(0), *[np.empty(0, np.int64)] * 3)
    scores, labels, hits, void = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    return Matched(scores, labels, hits, void, truths.ravel())


def pairs(
    told: NDArray[Any], there: NDArray[Any], ignored: NDArray[Any], outside: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(hits, void) of the boxes told [n, 4], the surest first, against those there [m, 4]: each takes the one
    it overlaps most among those that are free, the last of equals, and one that counts before one that does
    not. `ignored` [m]: may be taken by many; `outside` [S, m]."""
    hits = np.zeros((WAYS, len(told)), bool)
    void = np.tile(out_of_range(area(told)), (len(THRESHOLDS), 1))  # unless it takes one that counts
    if len(there):
        # back to front, since argmax gives the first of equals
        overlap = iou(told, there, ignored)[:, ::-1]
        always = ignored[::-1]
        unwanted = np.tile((ignored | outside)[:, ::-1], (len(THRESHOLDS), 1))  # [WAYS, m]
        least = np.repeat(np.minimum(THRESHOLDS, 1 - 1e-10), len(SIZES))[:, None]
        free = np.ones_like(unwanted)
        ways = np.arange(WAYS)
        for i in np.flatnonzero(overlap.max(1) >= THRESHOLDS[0]):
            fits = (free | always) & (overlap[i] >= least)
            best = np.where(fits, overlap[i] + 2.0 * ~unwanted, 0.0).argmax(1)
            taken = fits[ways, best]
            free[ways[taken], best[taken]] = False
            counts = ~unwanted[ways, best]
            hits[:, i] = taken & counts
            void[:, i] = np.where(taken, ~counts, void[:, i])
    return packed(hits), packed(void)


def packed(bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Bits [WAYS, n] as one number each [n]."""
    return np.asarray((bits.astype(np.int64) << np.arange(WAYS)[:, None]).sum(0))


def iou(told: NDArray[Any], there: NDArray[Any], ignored: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union [n, m]; of an ignored region, over the area of the told box alone."""
    a, b = told[:, None].astype(np.float64), there[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inside = sides.clip(0).prod(2)
    union = np.where(ignored, area(told)[:, None], area(told)[:, None] + area(there) - inside)
    return np.asarray(np.divide(inside, union, out=np.zeros_like(inside), where=union > 0))


def area(boxes: NDArray[Any]) -> NDArray[np.float64]:
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2].astype(np.float64)
    return np.asarray(sides[:, 0] * sides[:, 1])


def out_of_range(areas: NDArray[Any]) -> NDArray[np.bool_]:
    """[S, n]"""
    return np.asarray((areas < AREAS[:, :1]) | (areas > AREAS[:, 1:]))


# ---------------------------------------------------------------- any set of pictures


class Ranked(NamedTuple):
    """All boxes of all pictures by class and falling score."""

    labels: NDArray[np.int64]  # [N]
    scores: NDArray[np.float64]  # [N]
    found: NDArray[np.int64]  # [H] where a box found an object: its place in 0..N-1, way after way,
    way: NDArray[np.int64]  # [H] and the way
    wrong: NDArray[np.int64]  # [H] false boxes of the same class before it


def rank(
    scores: NDArray[Any], labels: NDArray[Any], hits: NDArray[Any], void: NDArray[Any], ways: Any = None
) -> Ranked:
    """Boxes of any pictures, in their order [N], ranked; equal scores keep their order, as COCO's do."""
    order = np.argsort(-scores, kind="stable")
    order = order[np.argsort(labels[order].astype(np.int16), kind="stable")]
    labels, hits, void = labels[order], hits[order], void[order]
    bits = np.arange(WAYS) if ways is None else np.asarray(ways)
    hit = bits_of(hits)[bits]
    counted = np.cumsum(~bits_of(void)[bits], axis=1, dtype=np.int32)
    way, found = np.nonzero(hit)
    start = np.searchsorted(labels, labels[found])  # of the class
    before = np.where(start > 0, counted[way, start - 1], 0)
    right = rank_within(way, labels[found])
    return Ranked(labels, scores[order], found, way, counted[way, found] - before - right)


def bits_of(packed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[WAYS, N]"""
    octets = packed.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : -(-WAYS // 8)]
    return np.unpackbits(octets.T.copy(), axis=0, bitorder="little").view(np.bool_)


def rank_within(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """1, 2, 3, … along each run of equal keys."""
    if not len(keys[0]):
        return np.empty(0, np.int64)
    new = np.zeros(len(keys[0]), bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(new)
    return np.asarray(np.arange(len(new)) - starts[np.cumsum(new) - 1] + 1)


def average_precision(ranked: Ranked, truths: NDArray[Any], ways: int = WAYS) -> NDArray[np.float64]:
    """AP [ways, classes]: the mean, over 101 recalls, of the best precision at that recall or a higher one.
    `truths` [ways, classes]: objects to be found; NaN where there are none."""
    classes = truths.shape[1]
    label = ranked.labels[ranked.found]
    nth = rank_within(ranked.way, label)
    precision = nth / (nth + ranked.wrong + np.spacing(1))
    # the best from here on: running maximum from the back, each run lifted above those behind it
    run = np.cumsum(nth == 1)
    best = np.maximum.accumulate((precision + 2.0 * (run.max(initial=0) - run))[::-1])[::-1]
    best = best - 2.0 * (run.max(initial=0) - run)
    total = truths[ranked.way, label]
    reached = np.searchsorted(RECALLS, nth / np.maximum(total, 1), "right")
    earlier = np.where(nth == 1, 0, np.roll(reached, 1))
    area_under = np.bincount(ranked.way * classes + label, best * (reached - earlier), ways * classes)
    return np.where(truths > 0, area_under.reshape(ways, classes) / len(RECALLS), np.nan)
