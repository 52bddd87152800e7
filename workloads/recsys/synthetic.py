"""A generated world of users who differ in what they like, with a known best score.

A rating is mean + user + item + taste x character + noise, where taste and character have FACTORS numbers
and the noise a standard deviation of NOISE: no model can have a lower RMSE than NOISE, 0.4. What is watched
hangs on taste too, and an item's genre names its strongest character. A model of user and item biases alone
misses the third part: its RMSE is 0.81. (It would be sqrt(NOISE² + TASTE²) = 1.08 if users watched at random:
what they choose to watch differs less in how much they like it.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from penstock.errors import DataError
from penstock.workload import Item, Row, Scan, Schema
from workloads.recsys import titles
from workloads.recsys.config import Data
from workloads.recsys.data import numbers, of_model

FACTORS = 4
NOISE, TASTE = 0.4, 1.0  # standard deviations of a rating's parts
MEAN, USER, ITEM = 6.0, 0.5, 0.7
SHARPNESS = 1.5  # how strongly taste decides what is watched
CANDIDATES = 4  # items a user looks at for each one watched
JUDGED = 2_000  # users with ratings held out, at most
DAY, START = 86_400, 1_700_000_000
GENRES = ("calm", "bold", "droll", "dark")


class Synthetic:
    """The source `synthetic`: `data.users` who rate `data.ratings` in all of `data.items`."""

    def scan(self, path: str, config: Data) -> Scan:
        each = config.ratings / max(config.users, 1)
        if config.users < 20 or config.items < 50 or not 4 <= each <= config.items / 4:
            raise DataError(
                f"data.users = {config.users}, data.items = {config.items}, data.ratings = {config.ratings}: "
                "at least 20 users, 50 items, and 4 ratings a user up to a quarter of the items are needed"
            )
        judged = min(config.users, JUDGED)
        names = [f"{user:08d}" for user in range(config.users)]
        items = [Item(f"train/{name}", "train", name, {"user": u}) for u, name in enumerate(names)]
        items += [Item(f"test/{names[u]}", "test", names[u], {"user": u}) for u in range(judged)]
        items += [Item(f"validation/{names[u]}", "validation", names[u], {"user": u}) for u in range(judged)]
        fields = {
            "rated": True,
            "timed": True,
            "duplicates": 0,
            "users": config.users,
            "lowest": 0.0,
            "highest": 12.0,
            "first": START,
            "last": START + 365 * DAY,
        }
        return Scan(
            items, Schema(fields=fields, assets={"items.arrow": items_of(config.items)}), licence="CC0-1.0"
        )

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row]:
        world = characters(config.items)
        # items are numbered alike everywhere but in a model of other data
        model = "users.arrow" in schema.assets
        number = numbers([f"v{item}" for item in range(config.items)], schema) if model else None
        for item in items:
            rows = watched(item.where["user"], config, world)
            if item.split == "train":
                yield {"user": item.where["user"], **{name: rows["train"][name] for name in NOTHING}}
            else:
                past = rows["validation"] if item.split == "test" else NOTHING
                told = {f"past_{name}": past[name] for name in NOTHING}
                asked = {name: rows[item.split][name] for name in NOTHING}
                row = {"who": item.unit, **asked, **told, "strange": 0}
                yield row if number is None else of_model(row, number)


NOTHING = {"items": np.empty(0, np.int32), "ratings": np.empty(0, np.float32), "times": np.empty(0, np.int64)}


@lru_cache(maxsize=2)
def characters(items: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The character of each item, float32 [items, FACTORS], and how good it is, [items]."""
    draw = np.random.Generator(np.random.Philox(key=(3, items)))
    # most of an item is one thing: genres say something
    one = np.eye(FACTORS)[draw.integers(FACTORS, size=items)] * draw.choice([-1, 1], (items, 1))
    character = 1.6 * one + 0.5 * draw.standard_normal((items, FACTORS))
    return character.astype(np.float32), (ITEM * draw.standard_normal(items)).astype(np.float32)


def watched(
    user: int, config: Data, world: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> dict[str, dict[str, NDArray[np.generic]]]:
    """What a user rated, by split; `best`: the ratings without their noise, which nobody can know better."""
    character, quality = world
    draw = np.random.Generator(np.random.Philox(key=(4, user)))
    many = int(np.clip(draw.poisson(config.ratings / config.users), 4, config.items // 4))
    taste = draw.standard_normal(FACTORS) * TASTE / np.sqrt(FACTORS * 0.89)
    seen = np.unique(draw.integers(config.items, size=CANDIDATES * many))
    liking = character[seen] @ taste
    # Gumbel noise: the best of them are a draw by softmax without replacement
    chosen = seen[np.argsort(-(SHARPNESS * liking + draw.gumbel(size=len(seen))), kind="stable")[:many]]
    draw.shuffle(chosen)
    best = MEAN + USER * draw.standard_normal() + quality[chosen] + character[chosen] @ taste
    rating = best + NOISE * draw.standard_normal(len(chosen))
    time = START + np.sort(draw.integers(365 * DAY, size=len(chosen)))
    part = np.zeros(len(chosen), int)
    if user < JUDGED:
        part[draw.permutation(len(chosen))[: max(2, len(chosen) // 7)]] = 2
        part[np.flatnonzero(part == 2)[0]] = 1
    rows = {
        "items": chosen.astype(np.int32),
        "ratings": rating.astype(np.float32),
        "times": time.astype(np.int64),
        "best": best.astype(np.float32),
    }
    return {
        split: {name: value[part == number] for name, value in rows.items()}
        for number, split in enumerate(("train", "validation", "test"))
    }


@lru_cache(maxsize=2)
def items_of(items: int) -> bytes:
    character, _ = characters(items)
    ids = [f"v{number}" for number in range(items)]
    genre = np.abs(character).argmax(1)
    sign = character[np.arange(items), genre] < 0
    known = {
        name: (f"Film {n} ({1960 + n * 7 % 60})", [("not " if sign[n] else "") + GENRES[genre[n]]])
        for n, name in enumerate(ids)
    }
    return titles.items_asset(ids, known)
