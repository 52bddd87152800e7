"""Recsys: what is held out, what is learned at prepare, the generated world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import DataError
from penstock.store import Store
from penstock.workload import Schema
from tests.ratings import HEADER, everything, pairs, ratings, read, write
from workloads.recsys import workload
from workloads.recsys.catalogue import ITEM_SHRINK, USER_SHRINK, Catalogue, Histories, biases, vectors
from workloads.recsys.config import Data
from workloads.recsys.data import numbers, of_model
from workloads.recsys.synthetic import NOISE, characters, watched

# ---------------------------------------------------------------- what is held out


@pytest.mark.parametrize("split", ["auto", "random", "last", "user", "given"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_rating_is_in_exactly_one_part(
    split: Any, shuffled: bool, tmp_path: Path, store: Store
) -> None:
    rows = ratings(30)
    given = rows[::7]
    left = [row for row in rows if row not in given] if split == "given" else rows
    data = Data(split="auto" if split == "given" else split, test=0.2, validation=0.1)
    made_ids = []
    for name, order in (("a", 1), ("b", -1 if shuffled else 1)):
        write(tmp_path / name / ("train.csv" if split == "given" else "ratings.csv"), left[::order])
        if split == "given":
            write(tmp_path / name / "test.csv", given[::order])
        made = read(f"csv:{tmp_path / name}", store, data)
        made_ids.append(made.id)
    assert made_ids[0] == made_ids[1]
    train, validation, test = (pairs(made, part) for part in ("train", "validation", "test"))
    told = set(pairs(made, "test", "past_"))
    known = told - set(validation)
    assert sorted([*train, *validation, *test, *known]) == sorted(rows)
    assert all((train, validation, test)) and not pairs(made, "validation", "past_")
    of_test = {row[0] for row in test}
    if split == "given":
        assert sorted(test) == sorted(given)
    elif split == "last":
        assert len(test) == len(validation) == 30
        times = {user: sorted(r[3] for r in rows if r[0] == user) for user, *_ in test}
        assert all(time == times[user][-1] for user, _, _, time in test)
        assert all(time == times[user][-2] for user, _, _, time in validation)
    elif split == "user":
        assert not of_test & {row[0] for row in [*train, *validation]} and 2 <= len(of_test) <= 12
        newest = {user: max(r[3] for r in known if r[0] == user) for user in of_test}
        assert all(time >= newest[user] for user, _, _, time in test) and len(known) > len(of_test)
    else:
        assert 0.1 < len(test) / len(rows) < 0.3 and 0.03 < len(validation) / len(rows) < 0.2
    if split != "user":
        # what a user rated for validation is told when the test is asked
        assert told == {row for row in validation if row[0] in of_test}


def test_a_rating_stays_in_its_part_when_others_come(tmp_path: Path, store: Store) -> None:
    few, many = ratings(20), [*ratings(20), *((f"new{u}", i, r, t) for u, i, r, t in ratings(20, seed=1))]
    data = Data(test=0.3)
    tests = [set(pairs(read(f"csv:{write(tmp_path / f'{n}.csv', rows)}", store, data), "test"))
             for n, rows in enumerate((few, many))]  # fmt: skip
    assert tests[0] == {row for row in tests[1] if not row[0].startswith("new")}


@pytest.mark.parametrize("timed", [True, False])
def test_of_a_pair_that_is_rated_twice_the_later_one_counts(
    timed: bool, tmp_path: Path, store: Store
) -> None:
    rows = ratings()
    twice = [(user, item, 0.0, time + 5) for user, item, _, time in rows[:9]]
    lines: list[Any] = [*twice, *rows] if timed else [*rows, *twice]
    header = HEADER if timed else HEADER[:3]
    made = read(f"csv:{write(tmp_path / 'a.csv', [row[: len(header)] for row in lines], header)}", store)
    found = {row[:2]: row[2] for row in everything(made)}
    assert made.schema.fields["duplicates"] == 9 and len(found) == len(rows)
    assert [found[row[0], row[1]] for row in rows] == [0.0] * 9 + [row[2] for row in rows[9:]]


def test_what_is_tested_is_not_trained_on_though_both_files_hold_it(tmp_path: Path, store: Store) -> None:
    rows = ratings()
    write(tmp_path / "train.csv", [(*row[:3], row[3] + 99) for row in rows])
    write(tmp_path / "test.csv", rows[:20])
    made = read(f"csv:{tmp_path}", store)
    assert sorted(pairs(made, "test")) == sorted(rows[:20]) and made.schema.fields["duplicates"] == 20
    assert not {row[:2] for row in rows[:20]} & {row[:2] for row in pairs(made, "train")}


def test_other_data_is_read_in_the_numbers_of_the_model() -> None:
    row = {"items": np.array([0, 2, 1]), "ratings": np.array([7.0, 8, 9]), "times": np.arange(3)}
    row |= {f"past_{name}": value[:2] for name, value in row.items()}
    found = of_model(row, np.array([5, -1, 3], np.int32))
    assert found["items"].tolist() == [5, 3] and found["ratings"].tolist() == [7, 8] and found["strange"] == 1
    assert found["past_items"].tolist() == [5, 3]


def test_a_model_is_judged_on_other_data_by_ids(tmp_path: Path, store: Store) -> None:
    made = read(f"csv:{write(tmp_path / 'a.csv', ratings())}", store)
    other = [(user, "0new" if item == "4" else item, r, t) for user, item, r, t in ratings(seed=5)]
    file = write(tmp_path / "b.csv", other)
    judged = prepare(
        workload, f"csv:{file}", Data(), store, use="evaluate", schema=made.schema, mapper=in_process
    )
    assert numbers(["0", "0new", "1"], made.schema).tolist() == [0, -1, 1]
    told, asked = pairs(judged, "test", "past_"), pairs(judged, "test")
    assert {*told, *asked} <= set(other) and len(told) > 50, "numbers of the model's items, not of the file's"
    rows_of = judged.test.rows(range(len(judged.test)))
    users = {row["who"] for row in rows_of}
    wanted = [r for r in other if r[0] in users]
    assert len(asked) + len(told) == sum(r[1] != "0new" for r in wanted)
    assert sum(row["strange"] for row in rows_of) <= sum(r[1] == "0new" for r in wanted)


# ---------------------------------------------------------------- what prepare learns


def test_biases_are_those_of_a_plain_computation() -> None:
    rows = ratings(20, 12)
    user, item = (np.array([int(row[n]) for row in rows], np.int32) for n in (0, 1))
    rating = np.array([row[2] for row in rows], np.float32)
    learned = biases(user, item, rating, 20, 12)
    mean = sum(map(float, rating)) / len(rows)
    of_user, of_item = [0.0] * 20, [0.0] * 12
    for _ in range(300):
        for i in range(12):
            above = [r[2] - mean - of_user[int(r[0])] for r in rows if int(r[1]) == i]
            of_item[i] = sum(above) / (len(above) + ITEM_SHRINK)
        for u in range(20):
            above = [r[2] - mean - of_item[int(r[1])] for r in rows if int(r[0]) == u]
            of_user[u] = sum(above) / (len(above) + USER_SHRINK)
    assert learned["mean"][0] == pytest.approx(mean, rel=1e-6)
    np.testing.assert_allclose(learned["user_bias"], of_user, atol=1e-5)
    np.testing.assert_allclose(learned["total"] / (learned["count"] + ITEM_SHRINK), of_item, atol=1e-5)
    assert learned["count"].tolist() == [sum(int(r[1]) == i for r in rows) for i in range(12)]


def test_items_are_near_when_the_same_users_watched_them() -> None:
    rows = ratings(20, 12)
    user, item = (np.array([int(row[n]) for row in rows], np.int32) for n in (0, 1))
    found = vectors(user, item, 20, 13, 4)  # item 12 was never watched
    assert found.shape == (13, 4) and not found[12].any()
    watched = np.zeros((20, 13))
    watched[user, item] = 1
    many = np.maximum(watched.sum(1, keepdims=True), 1) ** -0.5, np.maximum(watched.sum(0), 1) ** -0.5
    _, strength, right = np.linalg.svd(many[0] * watched * many[1])
    wanted = (right[:4].T * strength[:4])[:12]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(found[:12]), np.abs(wanted), atol=1e-5)  # strongest first
    np.testing.assert_allclose(found[:12] @ found[:12].T, wanted @ wanted.T, atol=1e-5)
    assert vectors(user[:1], item[:1] * 0, 1, 3, 4).shape == (3, 1), "one user says nothing"


def test_prepare_keeps_every_history_and_the_titles(tmp_path: Path, store: Store) -> None:
    made = read(f"csv:{write(tmp_path / 'a.csv', ratings())}", store, Data(split="user", test=0.3))
    histories, known = Histories(made.schema), Catalogue(made.schema)
    assert len(histories.number) == made.counts["train"] == made.schema.fields["users"] < 14
    for row in made.train.rows(range(made.counts["train"])):
        number, history = histories.of(row["item"].partition("/")[2])
        assert number == row["user"]
        for name, values in history.items():
            np.testing.assert_array_equal(values, row[name])
        assert (np.diff(history["times"].astype(int)) >= 0).all()
    assert histories.of("nobody")[0] == histories.of(None)[0] == -1
    assert known.count.sum() == len(pairs(made, "train"))
    empty = Catalogue(Schema(fields={}, assets={"items.arrow": made.schema.assets["items.arrow"]}))
    assert empty.count.tolist() == [0] * len(known)


# ---------------------------------------------------------------- the generated world


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read("synthetic", Store.open(tmp_path_factory.mktemp("synthetic")))


def flat(dataset: Dataset, split: str) -> tuple[np.ndarray[Any, Any], ...]:
    """User number, item and rating of all ratings of a split."""
    rows = getattr(dataset, split).rows(range(len(getattr(dataset, split))))
    users = [np.full(len(row["items"]), int(row["item"].partition("/")[2])) for row in rows]
    return tuple(map(np.concatenate, (users, [r["items"] for r in rows], [r["ratings"] for r in rows])))


def test_biases_miss_what_taste_explains_and_who_knows_all_misses_the_noise(synthetic: Dataset) -> None:
    known, (user, item, rating) = Catalogue(synthetic.schema), flat(synthetic, "test")
    simple = known.mean + known.user_bias[user] + known.item_bias[item]
    assert np.sqrt(np.mean((rating - simple) ** 2)) == pytest.approx(0.81, abs=0.03)
    best = [watched(u, Data(), characters(300))["test"] for u in range(600)]
    expected = np.concatenate([row["best"] for row in best]).astype(np.float64)
    assert np.concatenate([row["ratings"] for row in best]).tolist() == rating.tolist()
    assert np.sqrt(np.mean((rating - expected) ** 2)) == pytest.approx(NOISE, abs=0.02)


def test_genres_say_something_of_taste(synthetic: Dataset) -> None:
    known = Catalogue(synthetic.schema)
    place = {kind: n for n, kind in enumerate(known.kinds)}
    genre = np.array([place[kinds[0]] for kinds in known.genres])
    sums, seen = np.zeros((2, 600, len(place)))
    errors = {}
    for split in ("train", "test"):
        user, item, rating = flat(synthetic, split)
        above = rating - known.mean - known.user_bias[user] - known.item_bias[item]
        if split == "train":
            np.add.at(sums, (user, genre[item]), above)
            np.add.at(seen, (user, genre[item]), 1)
        errors[split] = (
            np.sqrt(np.mean(above**2)),
            np.sqrt(np.mean((above - (sums / (seen + 1))[user, genre[item]]) ** 2)),
        )
    assert errors["test"][1] < 0.9 * errors["test"][0], errors


@pytest.mark.parametrize(
    "data", [Data(users=10), Data(items=40), Data(ratings=600), Data(users=100, ratings=8_000)]
)
def test_a_world_that_cannot_be_is_an_error(data: Data, store: Store) -> None:
    with pytest.raises(DataError, match=r"data.users = .* are needed"):
        read("synthetic", store, data)


@pytest.mark.real_data
def test_movietweetings_is_read_whole(real_data: Path, store: Store) -> None:
    made = read(f"csv:{real_data}/recommender/movietweetings", store)
    train, validation, test = (len(pairs(made, split)) for split in ("train", "validation", "test"))
    assert (train + validation, test) == (48_235, 5_321) and 2_000 < validation < 2_800
    known = Catalogue(made.schema)
    assert len(known) == 2_146 and all(known.titles) and made.schema.fields["users"] == 2_290
    assert made.card["licence"].startswith("The MIT License")
