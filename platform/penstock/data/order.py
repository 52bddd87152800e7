"""The order of samples: a pure function of (seed, epoch, step), the same for any number of workers.

A global permutation of the epoch is cut into global batches; each worker takes its slice of a batch.
So the whole state of the order is the step, and every item is seen exactly once an epoch.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Indices: TypeAlias = NDArray[np.int64]


def key(*parts: str | int) -> NDArray[np.uint64]:
    """128 bits that stand for `parts`, uint64 [2]; the same on any machine."""
    # a numpy integer's repr differs from a plain one's
    plain = tuple(part if isinstance(part, str) else int(part) for part in parts)
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=16).digest()
    return np.frombuffer(digest, "<u8").astype(np.uint64)


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, n: int) -> Indices:
    """The order of `n` items in an epoch, int64 [n], read-only. One million take about 0.1 s."""
    order = np.random.Generator(np.random.Philox(key=key("order", seed, epoch))).permutation(n)
    order.flags.writeable = False
    return order


def steps_per_epoch(n: int, batch: int) -> int:
    """Steps that show every one of `n` items once; the last batch may be smaller."""
    return -(-n // batch)


def global_batch(seed: int, epoch: int, k: int, n: int, batch: int) -> Indices:
    """The items of step `k` of an epoch over all workers, int64 [<= batch]."""
    return permutation(seed, epoch, n)[k * batch : (k + 1) * batch]


def own_slice(items: Indices, rank: int, world: int) -> Indices:
    """The part of a global batch that worker `rank` of `world` takes; may be empty. The parts of all
    workers, joined in order, are the batch."""
    return items[len(items) * rank // world : len(items) * (rank + 1) // world]


def chance(name: str, seed: int, purpose: str) -> float:
    """A number in [0, 1) that hangs on the item's name, not on what else is in the data."""
    return int(key("split", purpose, seed, name)[0]) / 2.0**64


def hash_split(name: str, share: float, seed: int, purpose: str = "test") -> bool:
    """Whether the item falls into a split that takes `share` of all; splits of other purposes are
    independent of it."""
    return chance(name, seed, purpose) < share
