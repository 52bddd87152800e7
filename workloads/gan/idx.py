"""The format `idx`: MNIST, Fashion-MNIST and their kin as they are published.

`idx:FOLDER` holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and the same with `t10k` (or
`test`) for the test split, each as it is or gzipped (`.gz`). A prefix (`emnist-letters-train-…`) is fine.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from penstock.data.source import licence
from penstock.errors import DataError
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.gan.config import Data

NAME = re.compile(r"(?P<set>(?:.*-)?(?P<use>train|t10k|test))-images[-.]idx3-ubyte(?P<gz>\.gz)?")
MOST_BYTES = 2_000_000_000  # of one unpacked file


class Pair(NamedTuple):
    """A file of pictures and the file of their labels."""

    pictures: Path
    labels: Path
    split: Literal["train", "test"]


class Idx:
    """Pictures uint8 [n, rows, columns] and labels uint8 [n]; labels are named by their numbers, or by the
    lines of `labels.txt` where the folder has one."""

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        pairs = find_pairs(root)
        items, used = [], set()
        for pair in pairs:
            labels = load(pair.labels, 1)
            count = load(pair.pictures, 3).shape[0]
            if count != len(labels):
                raise DataError(
                    f"{pair.pictures.name} holds {count:,} pictures and {pair.labels.name} {len(labels):,} "
                    "labels; use two files that belong together"
                )
            used |= set(np.unique(labels).tolist())
            items += [
                Item(
                    f"{pair.split}/{n:06d}",
                    pair.split,
                    where={"files": [str(pair.pictures), str(pair.labels)], "number": n},
                )
                for n in range(count)
            ]
        files = [file for pair in pairs for file in (pair.pictures, pair.labels)]
        names = label_names(root, used)
        return Scan(items, Schema(names, {"channels": 1, "numbers": sorted(used)}), files, licence(root))

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        numbers = list(schema.fields.get("numbers", range(len(schema.labels))))
        for item in items:
            pictures, labels = (
                load(Path(file), axes) for file, axes in zip(item.where["files"], (3, 1), strict=True)
            )
            number = int(item.where["number"])
            label = int(labels[number])
            if label not in numbers:
                yield Fault(f"label {label} is none of the model's ({', '.join(map(str, numbers))})")
                continue
            file = io.BytesIO()
            Image.fromarray(pictures[number]).save(file, "PNG")
            yield {"image": file.getvalue(), "label": numbers.index(label), "seed": number}


def find_pairs(root: Path) -> list[Pair]:
    """The files of a folder that belong together; DataError names what is missing."""
    if not root.is_dir():
        raise DataError(
            f"{str(root)!r} is no folder; idx:FOLDER holds train-images-idx3-ubyte(.gz) and so on"
        )
    found: dict[str, Pair] = {}
    for file in sorted(root.iterdir()):
        match = NAME.fullmatch(file.name)
        if match is None:
            continue
        stem = file.name.removesuffix(".gz").replace("-images", "-labels").replace("idx3", "idx1")
        labels = next((root / name for name in (stem, f"{stem}.gz") if (root / name).is_file()), None)
        if labels is None:
            raise DataError(f"{file.name} stands without its labels; put {stem} or {stem}.gz beside it")
        split: Literal["train", "test"] = "train" if match["use"] == "train" else "test"
        if split in found and found[split].pictures.name.removesuffix(".gz") != file.name.removesuffix(".gz"):
            raise DataError(
                f"{found[split].pictures.name} and {file.name} both are the {split} split; keep one of them"
            )
        found.setdefault(split, Pair(file, labels, split))
    if "train" not in found:
        raise DataError(
            f"{root.name!r} holds no train-images-idx3-ubyte or train-images-idx3-ubyte.gz; "
            "put the files there as they are published"
        )
    return list(found.values())


def label_names(root: Path, used: set[int]) -> tuple[str, ...]:
    """Names of the labels in use, in the order of their numbers."""
    file = root / "labels.txt"
    if not file.is_file():
        return tuple(str(number) for number in sorted(used))
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if used and max(used) >= len(lines):
        raise DataError(f"{file.name} names {len(lines)} labels, and label {max(used)} is used; add its name")
    return tuple(lines[number] for number in sorted(used))


def load(file: Path, axes: int) -> np.ndarray[Any, Any]:
    """uint8 array of `axes` dimensions; DataError names the file and its fault."""
    try:
        state = file.stat()
    except OSError as error:
        raise DataError(f"{file.name}: {error.strerror or 'cannot be read'}") from None
    return _load(file, axes, state.st_mtime_ns, state.st_size)


# A worker reads its items one after the other: unpacking once a process is enough.
@lru_cache(maxsize=4)
def _load(file: Path, axes: int, changed: int, size: int) -> np.ndarray[Any, Any]:
    raw = unpacked(file)
    if len(raw) < 4 + 4 * axes:
        raise DataError(f"{file.name}: {len(raw)} bytes are no idx file; download it again")
    zero, kind, has = struct.unpack_from(">HBB", raw)
    if zero != 0 or kind != 0x08 or has != axes:
        raise DataError(
            f"{file.name}: begins with the magic number {raw[:4].hex()}, not with 000008{axes:02x}; "
            f"{'pictures' if axes == 3 else 'labels'} in the idx format are needed"
        )
    shape = struct.unpack_from(f">{axes}I", raw, 4)
    wanted, there = math.prod(shape), len(raw) - 4 - 4 * axes
    if wanted != there:
        raise DataError(
            f"{file.name}: its header says {' x '.join(map(str, shape))} = {wanted:,} bytes and {there:,} "
            "follow; download it again"
        )
    if not wanted:
        raise DataError(f"{file.name}: it holds nothing; download it again")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def unpacked(file: Path) -> bytes:
    try:
        if file.suffix != ".gz":
            return file.read_bytes()
        with gzip.open(file) as stream:
            raw = stream.read(MOST_BYTES + 1)
    except EOFError:
        raise DataError(f"{file.name}: the gzip file is truncated; download it again") from None
    except (gzip.BadGzipFile, zlib.error):
        raise DataError(f"{file.name}: not a gzip file, or damaged; download it again") from None
    except OSError as error:
        raise DataError(f"{file.name}: {error.strerror or 'cannot be read'}") from None
    if len(raw) > MOST_BYTES:
        raise DataError(f"{file.name}: more than {MOST_BYTES:,} bytes when unpacked")
    return raw
