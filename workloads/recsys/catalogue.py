"""What is known of items and users beside the weights: learned once from the training split, at prepare, and
kept in every version."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from penstock.data.shards import Shards
from penstock.workload import Schema
from workloads.recsys import titles
from workloads.recsys.config import Data

SWEEPS = 20  # of alternating least squares
USER_SHRINK, ITEM_SHRINK = 3.0, 2.0
"""Ratings of the mean that every user and item starts with; 2 to 4 do about as well on MovieTweetings."""


class Catalogue:
    """The items of a data set and its statistics, index = number of the item.

    `count`, `total`: float32 [I], ratings of an item and the sum of what they are above the mean and the
    user's bias. `vectors`: float32 [I, R] of length 1: two items are near when the same users watched them.
    `mean`: of all ratings.
    """

    def __init__(self, schema: Schema) -> None:
        table = pa.ipc.open_file(schema.assets["items.arrow"]).read_all()
        self.ids: list[str] = table["id"].to_pylist()
        self.titles: list[str] = table["title"].to_pylist()
        self.genres: list[list[str]] = table["genres"].to_pylist()
        self.kinds = sorted({kind for kinds in self.genres for kind in kinds})
        self.fields = schema.fields
        learned = safetensors.numpy.load(schema.assets.get("statistics.safetensors", _empty(len(self.ids))))
        self.count, self.total = learned["count"], learned["total"]
        self.vectors, self.user_bias = learned["vectors"], learned["user_bias"]
        self.mean = float(learned["mean"][0])

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def number(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.ids)}

    @cached_property
    def traits(self) -> NDArray[np.float32]:
        """Genres of each item as a vector of length 1 (0 where none are known), float32 [I, G]."""
        place = {kind: number for number, kind in enumerate(self.kinds)}
        traits = np.zeros((len(self), max(len(self.kinds), 1)), np.float32)
        for item, kinds in enumerate(self.genres):
            for kind in kinds:
                traits[item, place[kind]] = 1
        return np.asarray(
            traits / np.maximum(np.linalg.norm(traits, axis=1, keepdims=True), 1e-9), np.float32
        )

    @cached_property
    def decades(self) -> NDArray[np.float32]:
        """Year of each item in decades from 2000, float32 [I]."""
        return np.asarray((titles.years(self.titles) - 2000) / 10, np.float32)

    @cached_property
    def item_bias(self) -> NDArray[np.float32]:
        return np.asarray(self.total / (self.count + ITEM_SHRINK), np.float32)


class Histories:
    """What each user of the training split rated: known to the model when a client names the user."""

    def __init__(self, schema: Schema) -> None:
        table = pa.ipc.open_file(schema.assets["users.arrow"]).read_all()
        self.number: dict[str, int] = {name: n for n, name in enumerate(table["id"].to_pylist())}
        rows = safetensors.numpy.load(schema.assets["histories.safetensors"])
        self.starts = rows.pop("starts")
        self.rows = rows

    def of(self, user: str | None) -> tuple[int, Mapping[str, NDArray[np.generic]]]:
        """Number of a user (-1 = not known), and `items`, `ratings`, `times`, oldest first."""
        number = -1 if user is None else self.number.get(user, -1)
        own = slice(self.starts[number], self.starts[number + 1]) if number >= 0 else slice(0, 0)
        return number, {name: values[own] for name, values in self.rows.items()}


def fit(train: Shards, config: Data, schema: Schema) -> dict[str, bytes]:
    """Biases by alternating least squares (Koren, Bell and Volinsky 2009, eq. 3, shrunk), item vectors by a
    truncated singular value decomposition of who watched what (PureSVD, Cremonesi et al. 2010), and the
    histories."""
    items_of = train.column("items")
    sizes = np.array([len(items) for items in items_of], np.int64)
    item = np.concatenate(items_of)
    rating = np.concatenate(train.column("ratings"))
    time = np.concatenate(train.column("times"))
    user = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    items = len(titles.ids(schema))
    names = [name.partition("/")[2] for name in train.column("item")]
    learned = biases(user, item, rating, len(sizes), items)
    learned["vectors"] = vectors(user, item, len(sizes), items, config.rank)
    starts = np.append(0, np.cumsum(sizes))
    histories = {"starts": starts, "items": item, "ratings": rating, "times": time}
    return {
        "users.arrow": titles.to_arrow(pa.table({"id": pa.array(names, pa.string())})),
        "statistics.safetensors": safetensors.numpy.save(learned),
        "histories.safetensors": safetensors.numpy.save(histories),
    }


def biases(
    user: NDArray[np.int32], item: NDArray[np.int32], rating: NDArray[np.float32], users: int, items: int
) -> dict[str, NDArray[np.float32]]:
    mean = float(rating.mean(dtype=np.float64))
    above = rating - np.float32(mean)
    seen, count = np.bincount(user, minlength=users), np.bincount(item, minlength=items)
    of_user: NDArray[Any] = np.zeros(users)
    for _ in range(SWEEPS):
        of_item = np.bincount(item, above - of_user[user], items) / (count + ITEM_SHRINK)
        of_user = np.bincount(user, above - of_item[item], users) / (seen + USER_SHRINK)
    total = np.bincount(item, above - of_user[user], items)
    arrays = {"count": count, "total": total, "user_bias": of_user, "mean": np.array([mean])}
    return {name: np.ascontiguousarray(values, np.float32) for name, values in arrays.items()}


def vectors(
    user: NDArray[np.int32], item: NDArray[np.int32], users: int, items: int, rank: int
) -> NDArray[np.float32]:
    """float32 [I, R], each of length 1 (0 where nobody watched the item), the strongest numbers first."""
    rank = min(rank, users - 1, items - 1)
    if rank < 1:
        return np.zeros((items, 1), np.float32)
    watched = sparse.csr_matrix((np.ones(len(item), np.float32), (user, item)), (users, items))
    many_users, many_items = np.asarray(watched.sum(1)).ravel(), np.asarray(watched.sum(0)).ravel()
    even = (
        sparse.diags(np.maximum(many_users, 1) ** -0.5)
        @ watched
        @ sparse.diags(np.maximum(many_items, 1) ** -0.5)
    )
    _, strength, right = svds(even.astype(np.float64), k=rank, v0=np.ones(min(users, items)))
    found = (right.T * strength)[:, ::-1]
    return np.ascontiguousarray(
        found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), np.float32
    )


def _empty(items: int) -> bytes:
    """The statistics of a data set that was prepared for evaluation only."""
    zeros = np.zeros(items, np.float32)
    one = np.zeros(1, np.float32)
    none = {"count": zeros, "total": zeros, "vectors": zeros[:, None], "user_bias": one, "mean": one}
    return bytes(safetensors.numpy.save(none))
