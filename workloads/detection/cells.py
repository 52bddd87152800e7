"""Which cells answer for which object, and what that costs: the loss of the compact detector.

Shapes: A cells, n objects, L labels. Boxes are left, top, right, bottom in pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDES = (4, 8, 16)
LARGEST = (40.0, 100.0)  # pixels, root of the area, of the objects of all maps but the last
REACH = 1.5  # cells around its middle that answer for an object, if they lie on it
PER_OBJECT = 4.0  # weight of an object's cells together
BOX = 2.0  # weight of where an object is, against what it is
EMPTY = 0.75  # weight of a cell without an object
SURE = 0.1  # least target of a cell with one: a badly placed box of a small object is still better than none


class Cells(NamedTuple):
    centre: Tensor  # [A, 2], x and y in pixels
    stride: Tensor  # [A], pixels


def cells(images: Tensor) -> Cells:
    """The cells of all maps of images [B, 3, H, W], map by map, line by line."""
    centres, strides = [], []
    for stride in STRIDES:
        y, x = (
            (torch.arange(size // stride, dtype=images.dtype, device=images.device) + 0.5) * stride
            for size in images.shape[2:]
        )
        down, across = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack([across, down], 2).view(-1, 2))
        strides.append(torch.full_like(centres[-1][:, 0], stride))
    return Cells(torch.cat(centres), torch.cat(strides))


def owners(boxes: Tensor, here: Cells) -> Tensor:
    """The object of each cell, int64 [A], -1 for none: a cell near the middle of an object on the map of its
    size, that of the smaller one where there are several (FCOS's centre sampling). Boxes [n, 4], n > 0."""
    sides = boxes[:, 2:] - boxes[:, :2]
    size = sides.prod(1).sqrt()
    stride = size.new_tensor(STRIDES)[torch.bucketize(size, size.new_tensor(LARGEST))]
    # the thinnest object still has the one cell that its middle lies in
    reach = (sides / 2 / stride[:, None]).clamp(0.5, REACH) * stride[:, None]
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    near = ((here.centre - middle[:, None]).abs() <= reach[:, None]).all(2)
    near &= here.stride == stride[:, None]
    smallest, owner = size[:, None].where(near, math.inf).min(0)
    return owner.where(smallest.isfinite(), -1)


def picture_loss(scores: Tensor, found: Tensor, here: Cells, boxes: Tensor, labels: Tensor) -> Tensor:
    """The loss of one picture: scores before the sigmoid [A, L] and found boxes [A, 4] against the boxes
    [n, 4] and labels [n] that are there.

    Where: generalised IoU (Rezatofighi et al. 2019). What: quality focal loss (Li et al. 2020), whose target
    grows with the IoU of the found box, so that scores rank well-placed boxes first. Every object has
    the same weight in both, however many cells answer for it.
    """
    target, weight = torch.zeros_like(scores), torch.full_like(scores, EMPTY)
    box_loss = found.sum() * 0.0
    if len(boxes):
        boxes = boxes.to(found.dtype)
        owner = owners(boxes, here)
        mine = (owner >= 0).nonzero()[:, 0]
        owner = owner[mine]
        iou, general = overlaps(found[mine], boxes[owner])
        share = PER_OBJECT / torch.bincount(owner, minlength=len(boxes))[owner]
        box_loss = BOX * ((1 - general) * share).sum()
        target[mine, labels[owner]] = SURE + (1 - SURE) * iou.detach()
        weight[mine, labels[owner]] = share.to(weight.dtype)
    score = scores.detach().sigmoid()
    hardness = (target - score).square() * weight
    label_loss = F.binary_cross_entropy_with_logits(scores, target, hardness, reduction="sum")
    return label_loss + box_loss


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes [n, 4], pair by pair."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    iou = inner / union.clamp(min=1e-6)
    return iou, iou - (outer - union) / outer.clamp(min=1e-6)
