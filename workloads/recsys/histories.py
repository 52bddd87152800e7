"""Histories of several users as flat tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DAY = 86_400.0
Watched = Mapping[str, NDArray[np.generic]]
"""`items` int [n], `ratings` [n], `times` [n] (Unix seconds) of one user, oldest first."""


class Past(NamedTuple):
    """What B users rated, H ratings in all, those of a user together and oldest first."""

    user: Tensor  # int64 [B], number of the user, -1 = not known
    size: Tensor  # int64 [B], ratings of each
    item: Tensor  # int64 [H]
    rating: Tensor  # float32 [H]
    day: Tensor  # float32 [H], since `first`
    owner: Tensor  # int64 [H], 0 .. B - 1


def past_of(users: Sequence[int], rows: Sequence[Watched], first: float) -> Past:
    sizes = np.array([len(row["items"]) for row in rows], np.int64)

    def flat(name: str) -> NDArray[np.generic]:
        return np.concatenate([row[name] for row in rows]) if rows else np.empty(0)

    return Past(
        torch.tensor(list(users), dtype=torch.int64),
        torch.from_numpy(sizes),
        torch.from_numpy(flat("items").astype(np.int64)),
        torch.from_numpy(flat("ratings").astype(np.float32)),
        torch.from_numpy(((flat("times").astype(np.float64) - first) / DAY).astype(np.float32)),
        torch.from_numpy(np.repeat(np.arange(len(rows)), sizes)),
    )


def newest(row: Watched, most: int) -> Watched:
    """The last `most` of a history."""
    return {name: values[-most:] for name, values in row.items()}


def some(row: Watched, most: int, draw: np.random.Generator) -> Watched:
    """A random `most` of a history, in its order; the whole where it is no longer."""
    size = len(row["items"])
    if size <= most:
        return row
    chosen = np.sort(draw.choice(size, most, replace=False))
    return {name: values[chosen] for name, values in row.items()}
