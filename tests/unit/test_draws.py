"""An item's random numbers hang on (seed, epoch, purpose, item), not on its place, worker or neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.data.draws import ItemDraws, Items
from penstock.data.order import key
from penstock.data.shards import Shards, write_shard


@settings(max_examples=50, deadline=None)
@given(items=st.lists(st.integers(0, 2**40), min_size=1, max_size=20), before=st.integers(0, 7))
def test_a_draw_does_not_hang_on_what_was_drawn_before(items: list[int], before: int) -> None:
    draws = ItemDraws(3, 1)
    for item in items:
        generator = draws.at(item)
        first = (generator.random(), int(generator.integers(0, 1000)), float(generator.normal()))
        generator.random(before)
        generator.integers(0, 2, dtype=np.uint32)  # leaves half a number in the generator's buffer
        generator = draws.at(item)
        assert first == (generator.random(), int(generator.integers(0, 1000)), float(generator.normal()))


def test_a_moved_generator_gives_what_a_new_one_would() -> None:
    draws = ItemDraws(11, 4, "aug")
    for item in (0, 7, 123_456_789):
        new = np.random.Generator(np.random.Philox(key=key("aug", 11, 4), counter=[0, 0, 0, item]))
        moved = draws.at(item)
        assert new.random(9).tolist() == moved.random(9).tolist()
        halves = [rng.integers(0, 77, 5, dtype=np.uint32).tolist() for rng in (new, moved)]
        assert halves[0] == halves[1]


def test_items_epochs_seeds_and_purposes_have_numbers_of_their_own() -> None:
    drawn = {
        float(ItemDraws(seed, epoch, purpose).at(item).random())
        for seed in range(3)
        for epoch in range(3)
        for purpose in ("aug", "noise")
        for item in range(5)
    }
    assert len(drawn) == 90


def test_a_batch_pairs_rows_with_their_own_generators(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.arrow", [{"x": np.float32([i, i + 1]), "label": i % 2} for i in range(9)])
    rows = Shards([tmp_path / "a.arrow"])

    def drawn(indices: list[int]) -> dict[float, float]:
        return {float(row["x"][0]): rng.random() for row, rng in Items(rows, indices, ItemDraws(0, 0))}

    batch = Items(rows, np.array([4, 0, 8]), ItemDraws(0, 0))
    assert len(batch) == 3
    assert [float(row["x"][0]) for row, _ in batch] == [4, 0, 8]
    assert drawn([4, 0, 8]) == {**drawn([8]), **drawn([0, 4])}  # cut in two, in another order
    assert list(Items(rows, [], ItemDraws(0, 0))) == []


def test_a_partner_comes_from_the_whole_set_and_costs_an_item_one_draw(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.arrow", [{"x": np.float32([i])} for i in range(50)])
    rows = Shards([tmp_path / "a.arrow"])

    def drawn(indices: list[int]) -> dict[int, tuple[float, float]]:
        batch = Items(rows, indices, ItemDraws(5, 2))
        return {int(row["x"][0]): (float(batch.partner(rng)["x"][0]), rng.random()) for row, rng in batch}

    whole = drawn(list(range(50)))
    assert whole == drawn(list(range(25, 50))) | drawn(list(range(25)))  # two workers see the same partners
    assert len({partner for partner, _ in whole.values()}) > 20
    again = ItemDraws(5, 2).at(7)
    assert whole[7] == (again.integers(50), again.random())
