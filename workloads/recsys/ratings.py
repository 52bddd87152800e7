"""Ratings of users for items: ids mapped, duplicates resolved, each in one of the splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pac
from numpy.typing import NDArray

from workloads.recsys.columns import Columns
from workloads.recsys.config import Data

TRAIN, VALIDATION, TEST, KNOWN = range(4)
"""Where a rating goes. KNOWN: of a test user who is unknown to the model, told to it in the request."""


@dataclass(frozen=True)
class Ratings:
    """All ratings, sorted by user, then time.

    `users`, `items`: raw ids as text, sorted, index = number. `user`, `item`: int32 [N]; `rating`: float32
    [N], 1 where there are none; `time`: int64 [N], Unix seconds, the place in the files where there are
    none; `part`: int8 [N]. `duplicates`: ratings that a later one of the same pair replaced.
    """

    users: list[str]
    items: list[str]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]
    time: NDArray[np.int64]
    part: NDArray[np.int8]
    starts: NDArray[np.int64]
    rated: bool
    timed: bool
    duplicates: int

    def of(self, user: int, *parts: int) -> dict[str, NDArray[np.generic]]:
        """The ratings of a user that are in some parts, oldest first."""
        own = slice(self.starts[user], self.starts[user + 1])
        chosen = np.flatnonzero(np.isin(self.part[own], parts)) + self.starts[user]
        return {
            "items": self.item[chosen],
            "ratings": self.rating[chosen],
            "times": self.time[chosen],
        }


def join(files: Sequence[tuple[Columns, bool]], config: Data) -> Ratings:
    """One table of several files, each with whether it holds test ratings; of a pair that is rated twice the
    later one counts, one of a test file before all others."""
    columns = [part for part, _ in files]
    users, user = _numbered([part.user for part in columns])
    items, item = _numbered([part.item for part in columns])
    rated = all(part.rating is not None for part in columns)
    timed = all(part.time is not None for part in columns)
    rating = _joined([part.rating for part in columns]) if rated else np.ones(len(user), np.float32)
    time = np.arange(len(user), dtype=np.int64)
    if timed:
        time = _joined([part.time for part in columns]).astype(np.int64)
    marked = np.concatenate([np.full(len(part.user), test) for part, test in files])
    kept = _last_of_each(user.astype(np.int64) * len(items) + item, marked, time)
    # by item before it is by time, so that the order of a file changes nothing where there are times
    kept = kept[_by_time(user[kept], time[kept])]
    user, item = user[kept], item[kept]
    part = _parts(config, marked[kept], user, item, users, items)
    return Ratings(
        users=users,
        items=items,
        user=user,
        item=item,
        rating=rating[kept].astype(np.float32),
        time=time[kept],
        part=part,
        starts=np.searchsorted(user, np.arange(len(users) + 1)).astype(np.int64),
        rated=rated,
        timed=timed,
        duplicates=len(marked) - len(kept),
    )


def _last_of_each(
    pair: NDArray[np.int64], marked: NDArray[np.bool_], time: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The row that counts of each pair, pairs ascending."""
    order = np.argsort(pair, kind="stable")
    same = pair[order][1:] == pair[order][:-1]
    if same.any():
        many = np.append(same, False) | np.append(False, same)
        rows = order[many]
        order[many] = rows[np.lexsort((time[rows], marked[rows], pair[rows]))]
    return np.asarray(order[np.append(~same, True)], np.int64)


def _by_time(user: NDArray[np.int32], time: NDArray[np.int64]) -> NDArray[np.int64]:
    """The stable order by user, then time, of ratings that are sorted by user."""
    first, last = int(time.min()), int(time.max())
    span = last - first + 1
    # one number is sorted fifteen times as fast as two; only a time far from all others makes it too large
    if span * (int(user[-1]) + 1) < 2**63:
        return np.argsort(user * np.int64(span) + (time - first), kind="stable")
    return np.lexsort((time, user))


def _joined(arrays: Sequence[NDArray[np.generic] | None]) -> NDArray[np.generic]:
    return np.concatenate([array for array in arrays if array is not None])


def _numbered(arrays: Sequence[pa.DictionaryArray]) -> tuple[list[str], NDArray[np.int32]]:
    """Sorted ids, and the number of each value, int32 [N]."""
    whole = pa.chunked_array(arrays).combine_chunks()
    number = whole.indices.to_numpy()
    used = np.bincount(number, minlength=len(whole.dictionary)) > 0  # the others stood in bad rows only
    order = pac.sort_indices(whole.dictionary).to_numpy()
    order = order[used[order]]
    place = np.empty(len(used), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    ids: list[str] = whole.dictionary.take(pa.array(order)).to_pylist()
    return ids, place[number]


def _parts(
    config: Data,
    marked: NDArray[np.bool_],
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    users: Sequence[str],
    items: Sequence[str],
) -> NDArray[np.int8]:
    part = np.full(len(user), TRAIN, np.int8)
    if config.split == "last":
        return _last(part, user)
    own, its = _hashes(users, "user"), _hashes(items, "item")
    if config.split == "user":
        apart = _drawn(_uniform(own), config.test)[user]
        place = _from_the_end(user)
        size = np.bincount(user, minlength=len(users))[user]
        part[apart] = np.where(place[apart] < (size[apart] + 1) // 2, TEST, KNOWN)
    elif config.split == "auto" and marked.any():
        part[marked] = TEST
    else:
        part[_drawn(_uniform(own[user] ^ its[item]), config.test)] = TEST
    free = np.flatnonzero(part == TRAIN)
    # other bits than those of the test split: the two are independent
    chance = _uniform((own[user[free]] << np.uint64(1)) ^ its[item[free]])
    part[free[_drawn(chance, config.validation)]] = VALIDATION
    return part


def _drawn(chance: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Which fall into a part that takes `share` of all: one at least, where one remains."""
    drawn = chance < share
    if len(chance) > 1 and not drawn.any():
        drawn[chance.argmin()] = True
    return drawn


def _last(part: NDArray[np.int8], user: NDArray[np.int32]) -> NDArray[np.int8]:
    """Of every user with at least three ratings the last one is test, the one before it validation."""
    place = _from_the_end(user)
    size = np.bincount(user)[user]
    part[(place == 0) & (size > 2)] = TEST
    part[(place == 1) & (size > 2)] = VALIDATION
    return part


def _from_the_end(user: NDArray[np.int32]) -> NDArray[np.int64]:
    """0 for the newest rating of a user, 1 for the one before it, …; `user` is sorted."""
    ends = np.searchsorted(user, np.arange(int(user[-1]) + 1), side="right")
    return np.asarray(ends[user] - 1 - np.arange(len(user)))


def _hashes(ids: Sequence[str], purpose: str) -> NDArray[np.uint64]:
    """64 bits that hang on the raw id alone, uint64 [n]."""
    salt = purpose.encode()
    digests = b"".join(hashlib.blake2b(i.encode(), digest_size=8, salt=salt).digest() for i in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Mixed (the finaliser of SplitMix64, Steele et al. 2014) and scaled to 0 <= x < 1."""
    mixed = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) / 2.0**64)
