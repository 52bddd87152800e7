"""DiffAugment (Zhao et al. 2020): the same kinds of changes for real and generated pictures, through which
the generator's gradient flows. What is drawn comes in from outside, one line of numbers a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.gan.config import Augment

DRAWS = 7
"""Numbers in 0..1 a picture takes: brightness, saturation, contrast, right, down, hole's x and y."""
BRIGHTNESS, SATURATION, CONTRAST, RIGHT, DOWN, HOLE_X, HOLE_Y = range(DRAWS)


def diff_augment(pictures: Tensor, draws: Tensor, augment: Augment) -> Tensor:
    """Pictures [B, C, S, S] in -1..1, changed as draws [B, DRAWS] say; of the same shape."""
    if augment.colour:
        pictures = recolour(pictures, draws, augment.colour)
    if augment.translation:
        pictures = translate(pictures, draws[:, [RIGHT, DOWN]], augment.translation)
    if augment.cutout:
        pictures = cut_out(pictures, draws[:, [HOLE_X, HOLE_Y]], augment.cutout)
    return pictures


def recolour(pictures: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Brightness by up to half a unit, saturation by a factor of 0 to 2, contrast of 0.5 to 1.5 (at 1)."""
    either = (strength * (2 * draws - 1))[:, :, None, None, None]
    pictures = pictures + either[:, BRIGHTNESS] / 2
    grey = pictures.mean(1, keepdim=True)
    pictures = grey + (pictures - grey) * (1 + either[:, SATURATION])
    middle = pictures.mean((1, 2, 3), keepdim=True)
    return middle + (pictures - middle) * (1 + either[:, CONTRAST] / 2)


def translate(pictures: Tensor, draws: Tensor, share: float) -> Tensor:
    """Moved by whole pixels, at most `share` of the side; what comes in is 0."""
    size = pictures.shape[-1]
    most = int(size * share + 0.5)
    steps = (draws * (2 * most + 1)).floor().long().clamp(max=2 * most) - most  # [B, 2], right and down
    place = torch.arange(size, device=pictures.device) - steps[..., None]  # [B, 2, S]
    there = ((place >= 0) & (place < size)).to(pictures.dtype)
    place = place.clamp(0, size - 1)
    rows = place[:, 1, None, :, None].expand_as(pictures)
    columns = place[:, 0, None, None, :].expand_as(pictures)
    moved = pictures.gather(2, rows).gather(3, columns)
    return moved * (there[:, 1, None, :, None] * there[:, 0, None, None, :])


def cut_out(pictures: Tensor, draws: Tensor, share: float) -> Tensor:
    """A square of `share` of the side, its centre anywhere, set to 0."""
    size = pictures.shape[-1]
    side = int(size * share + 0.5)
    first = (draws * (size + 1 - side % 2)).floor() - side // 2  # [B, 2]
    place = torch.arange(size, device=pictures.device) - first[..., None]  # [B, 2, S]
    inside = ((place >= 0) & (place < side)).to(pictures.dtype)
    return pictures * (1 - inside[:, 1, None, :, None] * inside[:, 0, None, None, :])
