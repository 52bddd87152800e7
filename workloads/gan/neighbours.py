"""Whether generated pictures are copies: how near the nearest training picture is, against the next.

A picture whose distance to its nearest training picture is less than a third of that to the second nearest
counts as memorised (Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to
memorize"). Equal training pictures count as one, or a copy of both would have two equally near.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.numpy import load, save

from penstock.workload import Schema

ASSET = "neighbours.safetensors"
MOST = 10_000  # training pictures compared with
MOST_BYTES = 8_000_000  # of their thumbnails
WHOLE = 64  # training pictures that are kept as they are
RATIO = 1 / 3
CANDIDATES = 4  # nearest by a quick formula, of which the two nearest are found exactly


class Nearest(NamedTuple):
    """For each picture: the place of the nearest thumbnail int64 [n], its distance and the second nearest's
    float64 [n] (root of the mean squared difference, in levels of 255)."""

    place: NDArray[Any]
    first: NDArray[Any]
    second: NDArray[Any]


def keep(images: NDArray[Any]) -> bytes:
    """The asset of training pictures uint8 [n, C, S, S]: `thumbnails` of up to MOST different ones, `whole`
    pictures of a few."""
    different = np.unique(images, axis=0, return_index=True)[1]
    chosen = evenly(np.sort(different), MOST)
    side = images.shape[-1]
    while len(chosen) * images.shape[1] * side**2 > MOST_BYTES and side % 2 == 0:
        side //= 2
    kept: bytes = save(
        {
            "thumbnails": shrunk(images[chosen], side),
            "whole": np.ascontiguousarray(images[evenly(chosen, WHOLE)]),
        }
    )
    return kept


def evenly(index: NDArray[Any], most: int) -> NDArray[Any]:
    """At most `most` of them, evenly chosen."""
    return np.asarray(index[np.linspace(0, len(index) - 1, min(most, len(index))).astype(int)])


def shrunk(images: NDArray[Any], side: int) -> NDArray[Any]:
    """uint8 [n, C, S, S] averaged down to [n, C, side, side]."""
    if images.shape[-1] == side:
        return np.ascontiguousarray(images)
    small = F.avg_pool2d(torch.tensor(images, dtype=torch.float32), images.shape[-1] // side)
    return np.asarray(small.round().to(torch.uint8).numpy())


class Neighbours:
    """The training pictures that a data set keeps for comparison."""

    def __init__(self, schema: Schema) -> None:
        kept: Mapping[str, NDArray[Any]] = load(schema.assets[ASSET])
        self.thumbnails, self.whole = kept["thumbnails"], kept["whole"]
        self._flat = self.thumbnails.reshape(len(self.thumbnails), -1).astype(np.float32)
        self._squares = np.square(self._flat).sum(1)

    def nearest(self, images: NDArray[Any]) -> Nearest:
        """Of pictures uint8 [n, C, S, S]; with one training picture alone, the second is infinitely far."""
        small = shrunk(images, self.thumbnails.shape[-1])
        given = small.reshape(len(images), self._flat.shape[1]).astype(np.float32)
        rough = self._squares - 2 * given @ self._flat.T
        count = min(CANDIDATES, len(self._flat))
        near = np.argpartition(rough, count - 1, axis=1)[:, :count]
        apart = np.square(self._flat[near] - given[:, None]).mean(2, dtype=np.float64) ** 0.5
        order = np.argsort(apart, axis=1, kind="stable")
        near, apart = np.take_along_axis(near, order, 1), np.take_along_axis(apart, order, 1)
        second = apart[:, 1] if count > 1 else np.full(len(images), np.inf)
        return Nearest(near[:, 0].astype(np.int64), apart[:, 0], second)


def memorised(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(first < RATIO * second)
