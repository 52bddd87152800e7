"""What a training worker holds: the network, its augmented batches and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.workload import Batch, Objective, Schema
from workloads.pathology.config import Augment, Config, positive
from workloads.pathology.model import build

DRAWS = 14  # uniform numbers in 0..1 that an item's generator gives, by their place below
ANGLE, RIGHT, DOWN, ZOOM, MIRROR, UPSIDE, TURN = range(7)
STAINS, COLOURS, LIGHT = slice(7, 10), slice(10, 13), 13

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of a pixel value. Light fades exponentially in stained tissue: here stains just add up."""
STAIN = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Densities in red, green and blue of haematoxylin, eosin and a rest (Ruifrok and Johnston 2001)."""
AT_ONCE = 4  # patches bent together: what they need fits a core's cache, the whole batch took 1.5 x as long


class Patches(NamedTuple):
    patch: Tensor  # float32 [B, 3, S, S], 0..1
    label: Tensor  # int64 [B]


class PathologyTask:
    """Learns to name the tissue in a patch."""

    def __init__(self, config: Config, schema: Schema) -> None:
        positive(config, schema)  # a label that does not exist should stop the run, not its evaluation
        self.config = config
        self.module = build(config, schema, pretrained=True)

    def collate(self, items: Batch) -> Patches:
        size = self.config.data.size
        raw = np.empty((len(items), 3, size, size), np.uint8)
        label = np.empty(len(items), np.int64)
        draws = np.empty((len(items), DRAWS))
        for i, (row, generator) in enumerate(items):
            raw[i] = row["patch"]
            label[i] = row["label"]
            draws[i] = generator.random(DRAWS)
        return Patches(bend(raw, draws, self.config.augment), torch.from_numpy(label))

    def objectives(self) -> Sequence[Objective[Patches]]:
        return [Objective("loss", list(self.module.parameters()), self.loss)]

    def loss(self, batch: Patches) -> tuple[Tensor, float]:
        scores = self.module(batch.patch)
        smoothing = self.config.augment.smoothing
        return F.cross_entropy(scores, batch.label, reduction="sum", label_smoothing=smoothing), len(
            batch.label
        )


def bend(raw: np.ndarray[Any, Any], draws: np.ndarray[Any, Any], augment: Augment) -> Tensor:
    """Patches uint8 [B, 3, S, S] moved, turned and restained as `draws` [B, DRAWS] say, float32 in 0..1."""
    where = torch.from_numpy(np.float32(moves(draws, augment)))
    stain = torch.from_numpy(np.float32(-restain(draws, augment)))
    bent = torch.empty(raw.shape)
    for i in range(0, len(raw), AT_ONCE):
        part = slice(i, i + AT_ONCE)
        density = torch.from_numpy(np.take(DENSITY, raw[part]))
        grid = sampling_grid(where[part], raw.shape[-1])
        density = F.grid_sample(density, grid, padding_mode="reflection", align_corners=False)
        light = torch.matmul(stain[part], density.flatten(2)).exp_()
        bent[part] = light.mul_(256 / 255).sub_(1 / 255).clamp_(0, 1).view_as(density)
    return bent


def moves(draws: np.ndarray[Any, Any], augment: Augment) -> np.ndarray[Any, Any]:
    """Affine maps [B, 2, 3] from a pixel of the new patch to one of the old, both in -1..1."""
    either = 2 * draws - 1  # -1..1
    angle = np.radians(augment.rotation) * either[:, ANGLE]
    angle += np.pi / 2 * np.floor(4 * draws[:, TURN]) * augment.turns
    scale = np.exp(augment.zoom * either[:, ZOOM])
    mirror = np.where(augment.flips & (draws[:, MIRROR] < 0.5), -1, 1)
    upside = np.where(augment.flips & (draws[:, UPSIDE] < 0.5), -1, 1)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    right, down = 2 * augment.shift * either[:, RIGHT], 2 * augment.shift * either[:, DOWN]
    across, along = (mirror * cos, -upside * sin, right), (mirror * sin, upside * cos, down)
    return np.stack([*across, *along], 1).reshape(-1, 2, 3)


def restain(draws: np.ndarray[Any, Any], augment: Augment) -> np.ndarray[Any, Any]:
    """Matrices [B, 3, 3] on the optical densities of a pixel: other amounts of each stain, another light."""
    either = 2 * draws - 1
    amounts = 1 + augment.stain * either[:, STAINS]
    colours = 1 + augment.colour * (either[:, COLOURS] + either[:, LIGHT, None])
    mixed = STAIN.T * amounts[:, None, :] @ np.linalg.inv(STAIN.T)
    return np.asarray(colours[:, :, None] * mixed)


def sampling_grid(where: Tensor, size: int) -> Tensor:
    """F.affine_grid for square patches [B, S, S, 2], in a tenth of its time: the two axes just add up."""
    axis = torch.linspace(1 / size - 1, 1 - 1 / size, size)
    grid = torch.empty(len(where), size, size, 2)
    for k in range(2):
        across, down = where[:, k, 0, None] * axis, where[:, k, 1, None] * axis + where[:, k, 2, None]
        torch.add(across[:, None, :], down[:, :, None], out=grid[..., k])
    return grid
