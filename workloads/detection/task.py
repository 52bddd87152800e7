"""What a training worker holds: the detector, its bent pictures and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from penstock.workload import Batch, Objective, Schema
from workloads.detection.augment import COLOURS, bend, recolour
from workloads.detection.config import Config
from workloads.detection.model import build


class Pictures(NamedTuple):
    images: Tensor  # float32 [B, 3, H, W], 0..1
    boxes: list[Tensor]  # of each picture, float32 [n, 4], pixels
    labels: list[Tensor]  # of each picture, int64 [n]
    keys: list[int]  # of each picture, seed of what the loss samples in it


class DetectionTask:
    """Learns to find and name objects."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.module = build(config, schema, pretrained=True)

    def collate(self, items: Batch) -> Pictures:
        data, augment = self.config.data, self.config.augment
        size = augment.width or data.width, augment.height or data.height
        images = torch.empty(len(items), 3, size[1], size[0], dtype=torch.uint8)
        colours = np.empty((len(items), COLOURS))
        boxes, labels, keys = [], [], []
        for i, (row, draw) in enumerate(items):
            keys.append(int(draw.integers(2**62)))
            colours[i] = draw.random(COLOURS)
            bent = bend(row, items.partner, draw, size, augment)
            images[i] = bent.image
            boxes.append(torch.from_numpy(bent.boxes))
            labels.append(torch.from_numpy(bent.labels))
        return Pictures(recolour(images, colours, augment), boxes, labels, keys)

    def objectives(self) -> Sequence[Objective[Pictures]]:
        return [Objective("loss", list(self.module.parameters()), self.loss)]

    def loss(self, batch: Pictures) -> tuple[Tensor, Tensor]:
        return self.module.losses(batch.images, batch.boxes, batch.labels, batch.keys)
