"""Style distance: how unlike the textures of generated pictures are to those of the training pictures.

Gram matrices of VGG19's features (Gatys et al. 2016) need weights that torchvision downloads once; nothing
else in this workload does, so it is an option (`style=true`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.errors import ModelError
from workloads.gan.config import Config

LAYERS = (1, 6, 11, 20, 29)
"""The places in VGG19 of relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1."""
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which the weights expect
LEAST = 64  # pixels; smaller pictures are scaled up, or the last layer would see a single cell
BATCH = 16


class Style:
    """Distances to the mean Gram matrices of some training pictures."""

    def __init__(self, vgg: nn.Module, training: NDArray[Any]) -> None:
        """`vgg`: layers in the order of VGG19's `features`. `training`: uint8 [n, C, S, S]."""
        self.vgg = vgg
        sums: list[Tensor] = []
        for part in self.grams(training):
            batch = [gram.sum(0) for gram in part]
            sums = [a + b for a, b in zip(sums, batch, strict=True)] if sums else batch
        self.mean = [total / len(training) for total in sums]

    @classmethod
    def of_config(cls, config: Config, training: NDArray[Any]) -> Style | None:
        """None where the config does not ask for it; ModelError where it does and weights are missing."""
        return cls(vgg19(), training) if config.style else None

    def distances(self, images: NDArray[Any]) -> NDArray[Any]:
        """float64 [n] of pictures uint8 [n, C, S, S]: the mean over the layers of the squared difference of
        Gram matrices, summed and divided by 4 N^2 for N channels (a Gram matrix is a mean over cells)."""
        parts = [
            torch.stack(
                [
                    (gram - wanted).square().sum((1, 2)) / (4 * len(wanted) ** 2)
                    for gram, wanted in zip(part, self.mean, strict=True)
                ]
            ).mean(0)
            for part in self.grams(images)
        ]
        return torch.cat(parts).double().numpy() if parts else np.empty(0)

    @torch.inference_mode()
    def grams(self, images: NDArray[Any]) -> Any:
        """For each batch, the Gram matrices of every layer [b, N, N]."""
        mean, spread = (torch.tensor(of)[:, None, None] for of in (MEAN, SPREAD))
        for start in range(0, len(images), BATCH):
            pixels = torch.tensor(images[start : start + BATCH], dtype=torch.float32) / 255
            cells = (pixels.expand(-1, 3, -1, -1) - mean) / spread
            if cells.shape[-1] < LEAST:
                cells = F.interpolate(cells, (LEAST, LEAST), mode="bilinear")
            found = []
            for place, layer in enumerate(self.vgg.children()):
                cells = layer(cells)
                if place in LAYERS:
                    flat = cells.flatten(2)
                    found.append(flat @ flat.transpose(1, 2) / flat.shape[2])
                if place == LAYERS[-1]:
                    break
            yield found


@lru_cache(maxsize=1)  # an evaluator is made for every validation
def vgg19() -> nn.Module:
    """VGG19's features with ImageNet weights; ModelError where they cannot be had."""
    from torchvision import models

    try:
        whole = models.vgg19(weights="DEFAULT")
    except OSError as error:  # URLError is one
        raise ModelError(
            f"style = true: torchvision's VGG19 weights cannot be downloaded "
            f"({getattr(error, 'reason', error)}); leave style out, or put them into torch's hub cache"
        ) from None
    # in place, a layer would overwrite what the one before it gave
    layers = [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in whole.features]
    return nn.Sequential(*layers).eval().requires_grad_(False)
