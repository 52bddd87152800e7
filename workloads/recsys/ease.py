"""EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data"): each item as a ridge regression
on all others, in closed form.

With G = X'X the co-occurrences of the users' rows X and P = (G + ridge I)^-1, the score of item j for a
history h is -(h P)_j / P_jj (eq. 8). In training the user's own row x must not help to predict itself: P
without it is P + y y' / (1 - x'y), y = P x (Sherman and Morrison 1950), so leaving a user out costs two
products.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from penstock.nn import one_thread
from penstock.workload import Schema
from workloads.recsys.baselines import co_occurrences
from workloads.recsys.catalogue import Catalogue

LEAST = 1e-3  # of 1 - x'y, which is above 0 for every row of X but for rounding


class Ease(nn.Module):
    """Scores of all items from multi-hot histories; nothing in it is learned by steps."""

    inverse: Tensor

    def __init__(self, schema: Schema, catalogue: Catalogue, ridge: float) -> None:
        super().__init__()
        both = co_occurrences(schema, len(catalogue)).astype(np.float64)
        np.fill_diagonal(both, catalogue.count + ridge)
        with one_thread():  # the number of threads would change its last bits
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(torch.from_numpy(both)))
        self.register_buffer("inverse", inverse.float(), persistent=False)

    def forward(self, history: Tensor, row: Tensor | None = None) -> Tensor:
        """[B, I] for `history` [B, I], 1 = watched. `row` [B, I]: the same users in X, left out of P."""
        inverse = self.inverse
        found, own = history @ inverse, inverse.diagonal()
        if row is None:
            return -found / own
        image = row @ inverse
        rest = (1 - (row * image).sum(1, keepdim=True)).clamp(min=LEAST)
        found = found + (history * image).sum(1, keepdim=True) * image / rest
        return -found / (own + image.square() / rest)
