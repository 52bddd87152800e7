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
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor, nn

from penstock.data.shards import Shards
from penstock.errors import DataError, ModelError
from penstock.nn import one_thread
from penstock.workload import Schema
from workloads.gan import neighbours
from workloads.gan.config import Data
from workloads.gan.distances import Moments, inner_mean, moments

WEIGHTS, FACTS = "judge.safetensors", "judge.json"
FORMAT = 1
FEATURES = 64
SEEN = 32  # pixels; larger pictures are averaged down to at most this
TURNS = 4
BATCH = 64
PASSES = 8  # through the training pictures, between the two bounds below
LEAST_SEEN, MOST_SEEN = 12_800, 48_000  # pictures seen in training
MOST_BYTES = 500_000_000  # of pictures in memory
SHIFT = 2  # pixels by which a training picture is moved, at most
RATE, DECAY, SMOOTHING = 3e-3, 1e-2, 0.05
SEED = 7
KEPT = 1_000  # training pictures whose features are kept for KID
FEWEST = 8  # training pictures


def fit(train: Shards, config: Data, schema: Schema) -> Mapping[str, bytes]:
    """The files of a data set: the judge with what it says of the training pictures, facts about it, and the
    pictures that generated ones are compared with. DataError where there are too few pictures."""
    if len(train) < FEWEST:
        raise DataError(f"{len(train)} pictures to train on; {FEWEST} are needed, and hundreds to learn from")
    most = min(MOST_SEEN, MOST_BYTES // train.row(0)["image"].nbytes)
    chosen = neighbours.evenly(np.arange(len(train)), most).tolist()
    images = np.stack([train.row(i)["image"] for i in chosen])
    labels = np.array([train.row(i)["label"] for i in chosen], np.int64)
    with one_thread():
        judge = train_judge(images, labels, len(schema.labels))
        features, said = judged(judge, images)
    kept = neighbours.evenly(features, KEPT)
    of_all = moments(features)
    reference = {"mean": of_all.mean, "covariance": of_all.covariance, "features": kept}
    tensors = {f"judge/{name}": tensor.numpy() for name, tensor in judge.state_dict().items()}
    facts: dict[str, Any] = {"format": FORMAT, "task": "classes" if schema.labels else "quarter turns"}
    if schema.labels:
        facts["accuracy on training pictures"] = float((said == labels).mean())
        facts["shares"] = (np.bincount(labels, minlength=len(schema.labels)) / len(labels)).tolist()
    return {
        WEIGHTS: save({**tensors, **{f"reference/{name}": array for name, array in reference.items()}}),
        FACTS: json.dumps(facts, indent=1).encode(),
        neighbours.ASSET: neighbours.keep(images),
    }


class Reference:
    """What a data set's judge says: the judge, and the features of the real training pictures."""

    def __init__(self, schema: Schema, size: int) -> None:
        if WEIGHTS not in schema.assets:
            raise ModelError(f"the data set has no {WEIGHTS}; prepare it again with this workload")
        kept = load(schema.assets[WEIGHTS])
        facts = json.loads(schema.assets[FACTS])
        self.shares = np.array(facts.get("shares", ()), np.float64)
        self.judge = Judge(int(schema.fields["channels"]), size, len(schema.labels) or TURNS)
        own = {name[6:]: torch.from_numpy(array) for name, array in kept.items() if name.startswith("judge/")}
        self.judge.load_state_dict(own)
        self.judge.eval().requires_grad_(False)
        self.moments = Moments(kept["reference/mean"], kept["reference/covariance"])
        self.features = kept["reference/features"].astype(np.float64)
        self.inner = inner_mean(self.features, np.ones(len(self.features)))


class Judge(nn.Module):
    """Pictures uint8 [B, C, S, S] -> (features [B, FEATURES], scores of the classes [B, K])."""

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.shrink = math.ceil(size / SEEN)
        side = -(-(size // self.shrink) // 2) // 2
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
        features = F.gelu(self.dense(self.cells(scaled)))
        return features, self.classes(features)


@torch.inference_mode()
def judged(judge: Judge, images: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(features float32 [n, FEATURES], classes int64 [n]) of pictures uint8 [n, C, S, S]."""
    if not len(images):
        return np.empty((0, FEATURES), np.float32), np.empty(0, np.int64)
    parts = [judge(torch.tensor(images[k : k + BATCH])) for k in range(0, len(images), BATCH)]
    features = torch.cat([part for part, _ in parts])
    return features.numpy(), torch.cat([scores.argmax(1) for _, scores in parts]).numpy()


def train_judge(images: NDArray[Any], labels: NDArray[Any], classes: int) -> Judge:
    """From uint8 [n, C, S, S] and int64 [n] (not looked at where there are 0 classes)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        judge = Judge(images.shape[1], images.shape[2], classes or TURNS)
    random = np.random.Generator(np.random.Philox(key=SEED))
    steps = min(max(PASSES * len(images), LEAST_SEEN), MOST_SEEN) // BATCH
    optimiser = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1)
    order = np.empty(0, np.int64)
    for _ in range(steps):
        while len(order) < BATCH:
            order = np.concatenate([order, random.permutation(len(images))])
        chosen, order = order[:BATCH], order[BATCH:]
        some, truth = moved(images[chosen], random), labels[chosen]
        if not classes:
            truth = random.integers(0, TURNS, BATCH)
            some = np.stack([np.rot90(one, k, (1, 2)) for one, k in zip(some, truth, strict=True)])
        _, scores = judge(torch.from_numpy(some))
        loss = F.cross_entropy(scores, torch.from_numpy(truth), label_smoothing=SMOOTHING)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return judge.eval().requires_grad_(False)


def moved(images: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Each picture shifted by up to SHIFT pixels, its border repeated."""
    size = images.shape[-1]
    wide = np.pad(images, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    corners = random.integers(0, 2 * SHIFT + 1, (len(images), 2))
    return np.stack([each[:, y : y + size, x : x + size] for each, (y, x) in zip(wide, corners, strict=True)])
