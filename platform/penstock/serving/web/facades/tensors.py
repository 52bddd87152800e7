"""Raw tensors of the Open Inference Protocol's binary extension: little-endian, row by row; an element of
BYTES is its length in four bytes, and itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.serving.problems import Problem, excerpt

KINDS = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""Datatype -> numpy's name of it."""


@dataclass(frozen=True)
class Tensor:
    """What is said of a tensor."""

    name: str
    datatype: str
    shape: Sequence[int]


def from_raw(tensor: Tensor, raw: memoryview) -> list[Any]:
    """The elements; Problem 400 when there are more or fewer bytes than the shape says, or the datatype is
    not known."""
    count = math.prod(tensor.shape)
    if any(size < 0 for size in tensor.shape):
        raise Problem(400, f"input {tensor.name}: a shape has no negative sizes")
    if tensor.datatype == "BYTES":
        found = _strings(tensor, raw, count)
    elif tensor.datatype in KINDS:
        kind = np.dtype(KINDS[tensor.datatype])
        if count * kind.itemsize != len(raw):
            raise Problem(400, f"input {tensor.name}: {len(raw)} bytes are not its shape's")
        found = np.frombuffer(raw, kind).tolist()
    else:
        raise Problem(400, f"input {tensor.name}: no datatype {excerpt(tensor.datatype)!r}")
    return found


def _strings(tensor: Tensor, raw: memoryview, count: int) -> list[Any]:
    found: list[Any] = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        if len(raw) < 4 + size or len(found) >= count:
            raise Problem(400, f"input {tensor.name}: its lengths do not fit its bytes")
        found.append(bytes(raw[4 : 4 + size]))
        raw = raw[4 + size :]
    if len(found) != count:
        raise Problem(400, f"input {tensor.name} has {len(found)} elements, and its shape says otherwise")
    return found


def to_raw(datatype: str, column: Sequence[Any]) -> bytes:
    """The elements of an output as they are sent."""
    if datatype != "BYTES":
        return np.array(column, KINDS[datatype]).tobytes()
    encoded = [str(one).encode() for one in column]
    return b"".join(len(one).to_bytes(4, "little") + one for one in encoded)
