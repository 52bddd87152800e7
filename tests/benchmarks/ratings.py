"""How long ratings take to read: `workloads.recsys.data.load` against pandas.

`python tests/benchmarks/ratings.py --rows 20_000_000` writes a CSV of ratings (20 a user, 200 an item) to a
temporary folder and prints the ratio as JSON. pandas' side is `read_csv` and `factorize` of both id columns.
Ours also checks every row, keeps one rating of each pair, sorts by user and time, and splits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc

from penstock.benchmarks.pairs import compare
from workloads.recsys.config import Data
from workloads.recsys.data import load


def write(file: Path, rows: int) -> None:
    """Users as often as each other, items by a power law; pairs that occur twice are rare."""
    draw = np.random.default_rng(0)
    users, items = max(rows // 20, 1), max(rows // 200, 1)
    popular = (items * draw.random(rows) ** 2).astype(np.int64)
    table = pa.table(
        {
            "userId": draw.integers(users, size=rows),
            "movieId": popular,
            "rating": draw.integers(1, 11, rows) / 2,
            "timestamp": draw.integers(1_000_000_000, 1_400_000_000, rows),
        }
    )
    pc.write_csv(table, file, pc.WriteOptions(quoting_style="none"))


def main() -> None:
    words = argparse.ArgumentParser(description="Our reading of ratings against pandas.")
    words.add_argument("--rows", type=int, default=20_000_000)
    words.add_argument("--pairs", type=int, default=3)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ratings.csv"
        write(file, asked.rows)

        def ours() -> float:
            start = time.perf_counter()
            ratings, bad = load([file], start, Data())  # another stamp: nothing is remembered
            seconds = time.perf_counter() - start
            assert not bad and len(ratings.rating) + ratings.duplicates == asked.rows
            return seconds

        def theirs() -> float:
            start = time.perf_counter()
            table = pd.read_csv(file)
            for column in ("userId", "movieId"):
                pd.factorize(table[column])
            return time.perf_counter() - start

        ratio = compare(
            f"read and join {asked.rows:,} ratings",
            "pandas.read_csv and factorize of both id columns",
            ours,
            theirs,
            pairs=asked.pairs,
            unit="s",
        )
    print(json.dumps(ratio.to_json()))


if __name__ == "__main__":
    main()
