"""Layers whose weight is divided by its largest singular value (Miyato et al. 2018).

torch's spectral_norm keeps a power iteration in buffers that move with every call, so its result depends on
the number of workers and micro-batches. Here the value is computed whole each time, from the weight alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FAINTEST = 1e-12


def largest_singular_value(weight: Tensor) -> Tensor:
    """Of the matrix [out, the rest]; scalar, with its gradient u v' (for a single largest value)."""
    matrix = weight.flatten(1)
    with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
        flat = matrix.float() if matrix.dtype != torch.float64 else matrix
        if flat.shape[0] <= flat.shape[1]:
            left = torch.linalg.eigh(flat @ flat.T).eigenvectors[:, -1]
            right = F.normalize(flat.T @ left, dim=0, eps=FAINTEST)
        else:
            right = torch.linalg.eigh(flat.T @ flat).eigenvectors[:, -1]
            left = F.normalize(flat @ right, dim=0, eps=FAINTEST)
        outer = torch.outer(left, right)
    return (matrix * outer).sum()


def normalised(weight: Tensor) -> Tensor:
    return weight / largest_singular_value(weight).clamp_min(FAINTEST)


class SpectralConv2d(nn.Conv2d):
    """A convolution of spectral norm 1 (of its weight as a matrix)."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, normalised(self.weight), self.bias)
        return y


class SpectralLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, normalised(self.weight), self.bias)


class SpectralEmbedding(nn.Embedding):
    def forward(self, index: Tensor) -> Tensor:
        return F.embedding(index, normalised(self.weight))


def layers(spectral: bool) -> tuple[Any, Any, Any]:
    """The classes of convolution, linear layer and embedding."""
    if spectral:
        return SpectralConv2d, SpectralLinear, SpectralEmbedding
    return nn.Conv2d, nn.Linear, nn.Embedding
