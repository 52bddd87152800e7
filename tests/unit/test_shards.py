"""Rows come back from a shard as they went in, without being copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.data.shards import Shards, write_shard
from penstock.errors import DataError
from penstock.store import sha256_file

dtypes = st.sampled_from(["u1", "i2", "i4", "i8", "f2", "f4", "f8", "bool"])


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    return type(a) is type(b) and a == b


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dtype=dtypes, rows=st.integers(1, 6), trailing=st.lists(st.integers(1, 3), max_size=2))
def test_arrays_of_any_shape_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, dtype: str, rows: int, trailing: list[int]
) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.arrow"
    vary = data.draw(st.booleans())
    length = data.draw(st.integers(0, 5))
    lengths = [data.draw(st.integers(0, 5)) if vary else length for _ in range(rows)]
    arrays = [data.draw(hnp.arrays(np.dtype(dtype), (n, *trailing))) for n in lengths]
    write_shard(path, [{"x": array} for array in arrays])
    shard = Shards([path])
    assert all(same(array, shard.row(i)["x"]) for i, array in enumerate(arrays))


def test_rows_of_several_shards_come_back_in_order_and_with_their_types(tmp_path: Path) -> None:
    rows = [
        {
            "image": np.full((4, 5, 3), i, np.uint8),
            "boxes": np.arange(4.0 * (i % 3)).reshape(-1, 4),
            "mask": np.arange(6).reshape(2, 3) % 2 == i % 2,
            "raw": bytes(range(i)),
            "text": f"naïve {i}",
            "label": np.int64(i),
            "score": 0.1 * i,
        }
        for i in range(11)
    ]
    parts = (rows[:5], rows[5:6], rows[6:])
    written = [write_shard(tmp_path / f"{n}.arrow", part) for n, part in enumerate(parts)]
    shards = Shards([tmp_path / f"{n}.arrow" for n in range(3)])
    assert [w["rows"] for w in written] == [5, 1, 5] and len(shards) == 11
    for row, read in zip(rows, shards.rows(range(11)), strict=True):
        expected = {**row, "label": int(row["label"])}
        assert read.keys() == expected.keys()
        assert all(same(expected[name], read[name]) for name in expected)
    assert [row["label"] for row in shards.rows(np.array([10, 0, 5]))] == [10, 0, 5]
    assert shards.column("text") == [f"naïve {i}" for i in range(11)]
    assert shards.columns == list(rows[0])
    for index in (-1, 11):
        with pytest.raises(IndexError):
            shards.row(index)


def test_an_array_is_a_read_only_view_of_the_file(tmp_path: Path) -> None:
    waves = [np.ones(n, np.float32) for n in (3, 0, 9)]
    write_shard(tmp_path / "a.arrow", [{"image": np.zeros((8, 8), np.uint8), "wave": wave} for wave in waves])
    row = Shards([tmp_path / "a.arrow"]).row(2)
    for array in row.values():
        assert not array.flags.owndata and not array.flags.writeable
        assert array.flags.c_contiguous


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"x": np.arange(5 + i % 2), "name": str(i)} for i in range(20)]
    first, second = (write_shard(tmp_path / name, rows) for name in ("a.arrow", "b.arrow"))
    assert first == second
    assert first["sha256"] == sha256_file(tmp_path / "a.arrow")
    assert first["bytes"] == (tmp_path / "a.arrow").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.arrow", "b.arrow"]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([np.zeros((2, 3)), np.zeros((2, 4))], "only the first may vary"),
        ([np.zeros(2, np.float32), np.zeros(2)], "use one dtype"),
        ([np.zeros(2), np.zeros((2, 2))], "use one dtype"),
        ([np.array(["a"])], "use arrays of numbers"),
        ([np.array({})], "use arrays of numbers"),
        ([None], "NoneType"),
        ([1, "a"], "int, str"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, values: list[Any], why: str) -> None:
    with pytest.raises(TypeError, match=f"'odd'.*{why}"):
        write_shard(tmp_path / "a.arrow", [{"odd": value} for value in values])
    assert not list(tmp_path.iterdir())


def test_rows_with_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="other columns: b"):
        write_shard(tmp_path / "a.arrow", [{"a": 1}, {"b": 1}])


@pytest.mark.parametrize("cut", [0, 7, 400])
def test_a_shard_cut_short_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "train-00000.arrow"
    write_shard(path, [{"x": np.arange(50)} for _ in range(9)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"train-00000\.arrow is missing or damaged"):
        Shards([path])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.arrow is missing or damaged"):
        Shards([tmp_path / "gone.arrow"])
    assert len(Shards([])) == 0 and Shards([]).columns == []
