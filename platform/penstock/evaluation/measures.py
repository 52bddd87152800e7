"""What several workloads' `summarise` needs. Arrays in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def macro_f1(truth: NDArray[Any], said: NDArray[Any], classes: int) -> float:
    """The mean F1 of the classes that are there or were said, int [n] each; -1 said is wrong. NaN where there
    are none: a test set need not hold them all."""
    right = np.bincount(truth[truth == said], minlength=classes)
    there = np.bincount(truth, minlength=classes) + np.bincount(said[said >= 0], minlength=classes)
    present = there > 0
    return float((2 * right[present] / there[present]).mean()) if present.any() else float("nan")


def matrix(column: pa.ChunkedArray, width: int) -> NDArray[Any]:
    """A column of lists of `width` numbers each: [n, width]."""
    return np.asarray(column.combine_chunks().flatten().to_numpy().reshape(-1, width))
