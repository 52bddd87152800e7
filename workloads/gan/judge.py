"""A small classifier that `prepare` trains on the real training pictures: what generated ones are judged by.

Its last hidden layer stands where Inception's stands in FID and KID, so that the workload measures without a
download; figures are comparable on the same data set only. Where there are no classes it learns to tell by
which quarter turn a picture was turned (Gidaris et al. 2018).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penstock.data.shards import Shards
from penstock.workload import Schema
from workloads.gan.config import Data
from workloads.gan.neighbours import thumbnails

FEATURES = 64
SEEN = 32  # pixels; larger pictures are averaged down to at most this
TURNS = 4
BATCH = 64
PASSES = 8  # through the training pictures, as long as they are few
MOST_SEEN = 48_000  # pictures that training sees, so that a large set takes no longer
SHIFT = 2  # pixels by which a training picture is moved
RATE, DECAY = 3e-3, 1e-2
SEED = 7
KEPT = 1_000  # training pictures whose features are kept for KID


class Judge(nn.Module):
    """Pictures uint8 [B, C, S, S] -> (features [B, FEATURES], scores of the classes [B, K])."""

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.shrink = math.ceil(size / SEEN)
        side = size // self.shrink // 4
        self.cells = nn.Sequential(
            nn.Conv2d(channels, 32, 5, stride=2, padding=2, bias=False),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.GroupNorm(8, 64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.dense = nn.Linear(64 * side * side, FEATURES)
        self.classes = nn.Linear(FEATURES, classes)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        scaled = pictures.to(self.dense.weight.dtype) / 127.5 - 1
        if self.shrink > 1:
            scaled = F.avg_pool2d(scaled, self.shrink)
        return self.head(self.cells(scaled))

    def head(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        features = F.gelu(self.dense(cells))
        return features, self.classes(features)


def train_judge(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], classes: int) -> Judge:
    """From uint8 [n, C, S, S] and int64 [n]; the same bits every time with the same number of threads."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        judge = Judge(images.shape[1], images.shape[2], classes)
    random = np.random.Generator(np.random.Philox(key=SEED))
    steps = max(1, min(PASSES * len(images), MOST_SEEN) // BATCH)
    optimiser = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1)
    order = np.empty(0, np.int64)
    for _ in range(steps):
        while len(order) < BATCH:
            order = np.concatenate([order, random.permutation(len(images))])
        chosen, order = order[:BATCH], order[BATCH:]
        _, scores = judge(torch.from_numpy(moved(images[chosen], random)))
        loss = F.cross_entropy(scores, torch.from_numpy(labels[chosen]), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return judge.eval().requires_grad_(False)


def moved(images: np.ndarray[Any, Any], random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Each picture shifted by up to SHIFT pixels, its border repeated."""
    size = images.shape[-1]
    wide = np.pad(images, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    corners = random.integers(0, 2 * SHIFT + 1, (len(images), 2))
    return np.stack(
        [each[:, y : y + size, x : x + size] for each, (y, x) in zip(wide, corners, strict=True)]
    )
