"""What the two networks minimise, summed over the pictures.

Scores are float [B], the higher the more real.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.gan.model import Discriminator

Kind = Literal["nonsaturating", "hinge"]


def discriminator_loss(kind: Kind, real: Tensor, fake: Tensor) -> Tensor:
    """Goodfellow et al. 2014 (cross-entropy), or the hinge of Lim and Ye 2017."""
    if kind == "hinge":
        return F.relu(1 - real).sum() + F.relu(1 + fake).sum()
    return F.softplus(-real).sum() + F.softplus(fake).sum()


def generator_loss(kind: Kind, fake: Tensor) -> Tensor:
    if kind == "hinge":
        return -fake.sum()
    return F.softplus(-fake).sum()


def gradient_penalty(discriminator: Discriminator, real: Tensor, label: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): the squared gradient of the score by the real picture [B, C, S, S], half of
    it, summed."""
    if not len(real):
        return real.sum()
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(real, label).sum(), real, create_graph=True)
    return 0.5 * slope.square().sum()
