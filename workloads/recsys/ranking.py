"""Measures of a ranked list, by their standard names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

TOP = 10
CROWD = 100  # users whose lists are looked at together for the coverage
GAIN = 1 / np.log2(np.arange(2, TOP + 2))
"""Discount of each place (Järvelin and Kekäläinen 2002)."""


def measures(hits: NDArray[np.bool_], wanted: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Of each user, [n]. `hits` bool [n, TOP]: places that hold a wanted item; `wanted` [n]: how many
    there are."""
    found = hits.sum(1)
    precision, recall = found / TOP, found / np.maximum(wanted, 1)
    best = np.cumsum(GAIN)[np.clip(wanted, 1, TOP) - 1]
    first = np.where(found > 0, hits.argmax(1), 0)
    return {
        f"precision_at_{TOP}": precision,
        f"recall_at_{TOP}": recall,
        f"f1_at_{TOP}": 2 * precision * recall / np.maximum(precision + recall, 1e-12),
        f"hr_at_{TOP}": (found > 0).astype(np.float64),
        f"ndcg_at_{TOP}": hits @ GAIN / best,
        f"mrr_at_{TOP}": np.where(found > 0, 1 / (first + 1), 0.0),
    }


def novelty(count: NDArray[np.float32], users: int) -> NDArray[np.float64]:
    """How surprising each item is: -log2 of the share of users who watched it, in bits (Zhou et al.
    2010), [I]."""
    return np.asarray(-np.log2(np.maximum(count, 0.5) / max(users, 1)), np.float64)


def coverage(shown: NDArray[np.int64], users: int) -> float:
    """Share of the catalogue that the lists of `CROWD` users hold, on average over all choices of them
    (rarefaction, Hurlbert 1971): how many the lists of all users hold would depend on how many there are.

    `shown` [I]: in how many of the `users` lists each item is. With fewer users, of them all.
    """
    crowd = min(CROWD, users)
    free = users - shown  # lists without the item
    possible = free >= crowd
    kept = np.where(possible, free, crowd)
    missed = np.exp(
        gammaln(kept + 1) - gammaln(kept - crowd + 1) + gammaln(users - crowd + 1) - gammaln(users + 1)
    )
    return float(np.where(possible, 1 - missed, 1).mean())
