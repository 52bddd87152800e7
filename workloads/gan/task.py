"""What a training worker holds: both networks, batches with their noise, and two objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.workload import Batch, Objective, Schema
from workloads.gan.augment import DRAWS, diff_augment
from workloads.gan.config import Config
from workloads.gan.losses import discriminator_loss, generator_loss, gradient_penalty
from workloads.gan.model import build
from workloads.gan.style import vgg19

REAL, FAKE, OWN = range(3)  # whose changes: real and generated in the discriminator's turn, generator's turn


class Pictures(NamedTuple):
    """Real pictures and all the chance that they and their generated partners take."""

    real: Tensor  # uint8 [B, C, S, S]
    label: Tensor  # int64 [B]
    noise: Tensor  # float32 [B, 2, Z]: for the discriminator's turn and for the generator's
    draws: Tensor  # float32 [B, 3, DRAWS], 0..1
    penalised: Tensor  # bool [B]


class GanTask:
    """Learns to draw pictures like the real ones. A real picture's class is also asked of the generator, so
    the classes of generated pictures are as frequent as in the data."""

    def __init__(self, config: Config, schema: Schema) -> None:
        if config.style:
            vgg19()  # missing weights should stop the run now, not its first validation
        self.config = config
        self.module = build(config, schema)
        self.channels = int(schema.fields["channels"])

    def collate(self, items: Batch) -> Pictures:
        count, size, noise = len(items), self.config.data.size, self.module.generator.noise
        real = np.empty((count, self.channels, size, size), np.uint8)
        label = np.empty(count, np.int64)
        normal = np.empty((count, 2 * noise), np.float32)
        uniform = np.empty((count, 3 * DRAWS + 2), np.float32)
        for i, (row, generator) in enumerate(items):
            real[i] = row["image"]
            label[i] = row["label"]
            generator.standard_normal(out=normal[i], dtype=np.float32)
            generator.random(out=uniform[i], dtype=np.float32)
        if self.config.augment.flip:
            mirrored = uniform[:, -1] < 0.5
            real[mirrored] = real[mirrored][..., ::-1]
        return Pictures(
            torch.from_numpy(real),
            torch.from_numpy(label),
            torch.from_numpy(normal.reshape(count, 2, noise)),
            torch.from_numpy(np.ascontiguousarray(uniform[:, :-2]).reshape(count, 3, DRAWS)),
            torch.from_numpy(uniform[:, -2] < self.config.model.r1_share),
        )

    def objectives(self) -> Sequence[Objective[Pictures]]:
        gan = self.module
        return [
            Objective("discriminator", list(gan.discriminator.parameters()), self.discriminator_loss),
            Objective("generator", list(gan.generator.parameters()), self.generator_loss),
        ]

    def discriminator_loss(self, batch: Pictures) -> tuple[Tensor, float]:
        net, count = self.config.model, len(batch.label)
        with torch.no_grad():
            fake = self.generated(batch, 0)
        real = batch.real.to(fake.dtype) / 127.5 - 1
        real, fake = self.bent(real, batch, REAL), self.bent(fake, batch, FAKE)
        # Dropout wants the rows of an item together
        pairs = torch.stack([real, fake], 1).flatten(0, 1)
        scores = self.module.discriminator(pairs, batch.label.repeat_interleave(2))
        loss = discriminator_loss(net.loss, scores[0::2], scores[1::2])
        if net.r1:
            chosen = batch.penalised
            penalty = gradient_penalty(self.module.discriminator, real[chosen], batch.label[chosen])
            loss = loss + net.r1 / net.r1_share * penalty
        return loss, count

    def generator_loss(self, batch: Pictures) -> tuple[Tensor, float]:
        seen = self.bent(self.generated(batch, 1), batch, OWN)
        scores = self.module.discriminator(seen, batch.label)
        return generator_loss(self.config.model.loss, scores), len(batch.label)

    def generated(self, batch: Pictures, turn: int) -> Tensor:
        generator = self.module.generator
        kind = next(generator.parameters()).dtype
        asked = batch.label if generator.classes else torch.zeros_like(batch.label)
        shares = F.one_hot(asked, max(generator.classes, 1)).to(kind)
        pictures: Tensor = generator(batch.noise[:, turn].to(kind), shares)
        return pictures

    def bent(self, pictures: Tensor, batch: Pictures, whose: int) -> Tensor:
        return diff_augment(pictures, batch.draws[:, whose].to(pictures.dtype), self.config.augment)
