"""Training pictures bent: a window that keeps boxes, another size, mirrored, made of four, recoloured.

Every random number of a picture comes from its own generator. Sizes are (width, height) in pixels, boxes
float32 [n, 4] left, top, right, bottom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from penstock.workload import Row
from workloads.detection.config import Augment
from workloads.detection.data import GREY

Generator = np.random.Generator
Boxes = NDArray[np.float32]
THINNEST = 1.5  # pixels of the shorter side of a box that is still learned from
VISIBLE = 0.3  # share of a box that a window must hold for it to be learned from
SPLIT = (0.3, 0.7)  # where the four pictures of a mosaic meet, as a share of the side


class Bent(NamedTuple):
    """A training picture: uint8 [3, height, width], its boxes and their labels int64 [n]."""

    image: Tensor
    boxes: Boxes
    labels: NDArray[np.int64]


def bend(
    row: Row, partner: Callable[[Generator], Row], draw: Generator, size: tuple[int, int], augment: Augment
) -> Bent:
    """A picture of `size` from a train row and, in a mosaic, three partners (Bochkovskiy et al. 2020)."""
    if draw.random() < augment.mosaic:
        bent = mosaic([row, *(partner(draw) for _ in range(3))], draw, size, augment)
    else:
        bent = window(row, draw, size, augment)
    if draw.random() < augment.flip:
        mirrored = bent.boxes.copy()
        mirrored[:, [0, 2]] = size[0] - bent.boxes[:, [2, 0]]
        bent = Bent(transforms.horizontal_flip(bent.image), mirrored, bent.labels)
    return bent


def mosaic(rows: Sequence[Row], draw: Generator, size: tuple[int, int], augment: Augment) -> Bent:
    width, height = size
    across, down = (int(length * draw.uniform(*SPLIT)) for length in size)
    whole = torch.empty(3, height, width, dtype=torch.uint8)
    corners = [(0, 0, across, down), (across, 0, width, down)]
    corners += [(0, down, across, height), (across, down, width, height)]
    boxes, labels = [], []
    for row, (left, top, right, bottom) in zip(rows, corners, strict=True):
        part = window(row, draw, (right - left, bottom - top), augment)
        whole[:, top:bottom, left:right] = part.image
        boxes.append(part.boxes + np.array([left, top, left, top], np.float32))
        labels.append(part.labels)
    return Bent(whole, np.concatenate(boxes), np.concatenate(labels))


def window(row: Row, draw: Generator, size: tuple[int, int], augment: Augment) -> Bent:
    """A part of a picture, scaled to `size`; grey where the picture ends. Mostly one that holds a box."""
    image, boxes = row["image"], row["boxes"]
    scale = math.exp(draw.uniform(-augment.shrink, augment.grow))
    aspect = math.exp(draw.uniform(-augment.aspect, augment.aspect))
    scales = scale * aspect, scale / aspect
    aimed = boxes[draw.integers(len(boxes))] if len(boxes) and draw.random() < augment.aim else None
    spans, edges = [], []
    for axis in (0, 1):
        length = image.shape[2 - axis]
        seen = size[axis] / scales[axis]
        kept = None if aimed is None else (float(aimed[axis]), float(aimed[axis + 2]))
        start = begin(length, seen, kept, draw.random())
        first, last = max(0, round(start)), min(length, max(round(start + seen), 1))
        spans.append(slice(first, last))
        pixels = min(size[axis], max(1, round((last - first) * scales[axis])))
        edges.append((first, last, pixels, round((size[axis] - pixels) * draw.random())))
    seen_part = torch.from_numpy(image[:, spans[1], spans[0]].copy())
    part = transforms.resize(seen_part, [edges[1][2], edges[0][2]])
    (_, _, across, left), (_, _, down, top) = edges
    canvas = part
    if (across, down) != size:
        canvas = torch.full((3, size[1], size[0]), GREY, dtype=torch.uint8)
        canvas[:, top : top + down, left : left + across] = part
    moved, kept_boxes = move(boxes, edges)
    return Bent(canvas, moved, row["labels"][kept_boxes])


def begin(length: int, seen: float, kept: tuple[float, float] | None, share: float) -> float:
    """Where a window of `seen` pixels begins on a side of `length`, at `share` 0..1 of what is possible;
    around the span `kept` if it fits."""
    if seen >= length:
        return (length - seen) * share
    low, high = 0.0, length - seen
    if kept is not None and kept[1] - kept[0] < seen:
        low, high = max(low, kept[1] - seen), min(high, kept[0])
    elif kept is not None:
        low, high = max(low, kept[0]), min(high, kept[1] - seen)
    return low + max(0.0, high - low) * share


def move(boxes: Boxes, edges: Sequence[tuple[int, int, int, int]]) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes on the new picture, and which of the old ones they are. `edges` for x and y: first and last pixel
    of the part, its new length, where it begins."""
    moved = np.empty_like(boxes)
    for axis, (first, last, pixels, start) in enumerate(edges):
        moved[:, axis::2] = (boxes[:, axis::2] - first) * (pixels / (last - first)) + start
    whole = (moved[:, 2:] - moved[:, :2]).prod(1)
    for axis, (_, _, pixels, start) in enumerate(edges):
        moved[:, axis::2] = moved[:, axis::2].clip(start, start + pixels)
    sides = moved[:, 2:] - moved[:, :2]
    kept = (sides.prod(1) >= VISIBLE * whole) & (sides.min(1, initial=np.inf) >= THINNEST)
    return moved[kept], kept


# ---------------------------------------------------------------- colours

COLOURS = 7  # uniform numbers that recolour a picture
INTO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
OUT_OF_YIQ = np.linalg.inv(INTO_YIQ)


def recolour(images: Tensor, draws: NDArray[Any], augment: Augment) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 in 0..1 with another hue, saturation, brightness, contrast and light, as
    `draws` [B, COLOURS] in 0..1 say. All of it together is one 3 x 3 matrix and a shift, which takes a
    twentieth of the time that the same steps take one by one."""
    either = 2 * draws - 1
    hue, saturation = augment.hue * either[:, 0], 1 + augment.saturation * either[:, 1]
    turn = np.zeros((len(draws), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * np.cos(hue)
    turn[:, 2, 1] = saturation * np.sin(hue)
    turn[:, 1, 2] = -turn[:, 2, 1]
    light = (1 + augment.brightness * either[:, 2, None]) * (1 + augment.light * either[:, 3:6])
    mixing = torch.from_numpy(np.float32(light[:, :, None] * (OUT_OF_YIQ @ turn @ INTO_YIQ)))
    contrast = torch.from_numpy(np.float32(1 + augment.contrast * either[:, 6]))[:, None, None]
    pixels = images.flatten(2).float().div_(255)
    mean = (mixing @ pixels.mean(2, keepdim=True)).mean(1, keepdim=True)
    shift = (mean * (1 - contrast)).expand(-1, 3, 1)
    return torch.baddbmm(shift, mixing * contrast, pixels).clamp_(0, 1).view(images.shape)
