"""A small detector of our own for a CPU: no anchors, small objects in view, nothing that hangs on a batch.

As in FCOS (Tian et al. 2019) every cell of three maps says what it shows and how far the four sides of it
are; coarse maps inform fine ones (Lin et al. 2017, feature pyramids). Strides of 4, 8 and 16 pixels instead
of 8 to 128: an object may be 4 pixels wide. Plain 3 x 3 convolutions, which a CPU computes three to ten
times as fast, for their arithmetic, as depthwise ones.

Shapes: B pictures of H x W pixels, C channels of h x w cells, L labels, A cells of all maps together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from workloads.detection.cells import PER_OBJECT, cells, picture_loss
from workloads.detection.config import Net

MEAN, SPREAD = 0.45, 0.25  # of pixels, roughly
PRIOR = 0.01  # score of every cell before the first step, so that the many empty ones do not drown the rest
LEAST, MOST = 0.01, 300  # score and number of the boxes that are given for a picture
CANDIDATES = 1000  # before the double ones are taken out
OVERLAP = 0.6  # IoU from which two boxes of a label are one
FARTHEST = 5.0  # side at most e**5 cells away


def convolution(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    padding = (size - stride + 1) // 2
    layer = nn.Conv2d(before, after, size, stride, padding, bias=False)
    return nn.Sequential(layer, nn.GroupNorm(4, after), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """[B, C, h, w] -> the same (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


class Head(nn.Module):
    """A map [B, C, h, w] -> L scores before the sigmoid and four sides of each cell, [B, L + 4, h w]."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        what, where = nn.Conv2d(channels, labels, 1), nn.Conv2d(channels, 4, 1)
        for layer, start in ((what, -math.log(1 / PRIOR - 1)), (where, 1.0)):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, start)  # type: ignore[arg-type]  # there is one
        self.what = nn.Sequential(convolution(channels, channels), what)
        self.where = nn.Sequential(convolution(channels, channels), where)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.what(x), self.where(x)], 1).flatten(2)


class Compact(nn.Module):
    """Pictures [B, 3, H, W] in 0..1, H and W multiples of 32. Labels count from 0."""

    def __init__(self, net: Net, labels: int) -> None:
        super().__init__()
        self.labels = labels
        c4, c8, c16, c32 = (k * net.width for k in (1, 2, 3, 4))
        self.stem = nn.Sequential(convolution(3, c4 // 2, 4, 2), convolution(c4 // 2, c4, 2, 2))
        self.stage4 = Residual(c4)
        self.stage8 = nn.Sequential(convolution(c4, c8, 2, 2), Residual(c8), Residual(c8))
        self.stage16 = nn.Sequential(convolution(c8, c16, 2, 2), Residual(c16), Residual(c16))
        self.stage32 = nn.Sequential(convolution(c16, c32, 2, 2), Residual(c32))
        self.from32, self.from16, self.from8 = (
            nn.Conv2d(before, after, 1) for before, after in ((c32, c16), (c16, c8), (c8, c4))
        )
        self.merge16, self.merge8, self.merge4 = (convolution(c, c) for c in (c16, c8, c4))
        self.heads = nn.ModuleList(Head(c, labels) for c in (c4, c8, c16))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores before the sigmoid [B, A, L] and boxes [B, A, 4] in pixels."""
        stage4 = self.stage4(self.stem((images - MEAN) / SPREAD))
        stage8 = self.stage8(stage4)
        stage16 = self.stage16(stage8)
        stage32 = self.stage32(stage16)
        map16 = self.merge16(stage16 + upsampled(self.from32(stage32)))
        map8 = self.merge8(stage8 + upsampled(self.from16(map16)))
        map4 = self.merge4(stage4 + upsampled(self.from8(map8)))
        maps = (map4, map8, map16)
        said = torch.cat([head(each) for head, each in zip(self.heads, maps, strict=True)], 2)
        # half a mantissa cannot tell a pixel on the right from its neighbour
        said = said.transpose(1, 2).to(torch.promote_types(said.dtype, torch.float32))
        scores, sides = said[..., : self.labels], said[..., self.labels :]
        here = cells(images)
        sides = sides.clamp(max=FARTHEST).exp() * here.stride[:, None]
        boxes = torch.cat([here.centre - sides[..., :2], here.centre + sides[..., 2:]], 2)
        return scores, boxes

    def losses(
        self, images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], keys: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The sum of the images' losses, and their weight: one an image, PER_OBJECT an object."""
        scores, found = self(images)
        here = cells(images)
        total = scores.sum() * 0.0 + found.sum() * 0.0
        weight = torch.zeros((), dtype=torch.float64, device=images.device)
        for score, box, truth, label in zip(scores, found, boxes, labels, strict=True):
            total = total + picture_loss(score, box, here, truth, label)
            weight += 1 + PER_OBJECT * len(label)
        return total, weight

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes [k, 4] by falling score, scores [k] and labels int64 [k] of each image."""
        scores, found = self(images)
        height, width = images.shape[2:]
        answers = []
        for score, box in zip(scores.sigmoid(), found, strict=True):
            best, order = score.flatten().sort(descending=True, stable=True)
            best = best[:CANDIDATES]
            best = best[best > LEAST]
            cell, label = order[: len(best)] // self.labels, order[: len(best)] % self.labels
            limits = box.new_tensor([width, height, width, height])
            candidates = box[cell].clamp(min=0).minimum(limits)
            kept = batched_nms(candidates, best, label, OVERLAP)[:MOST]
            answers.append((candidates[kept], best[kept], label[kept]))
        return answers


def upsampled(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, C, 2 h, 2 w]"""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
