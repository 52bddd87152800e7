"""Any picture and its boxes to the canvas that the network sees, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from penstock.media import decode_image
from penstock.workload import Row, Schema
from workloads.detection.config import Data

GREY = 114  # of the canvas where there is no picture


class Placed(NamedTuple):
    """A picture on the canvas, in its upper left corner. `across` and `down`: canvas pixels per pixel of the
    picture; rounding to whole pixels makes them differ a little."""

    pixels: np.ndarray[Any, Any]  # uint8 [3, height, width], RGB
    across: float
    down: float

    @property
    def scale(self) -> np.ndarray[Any, Any]:
        """float64 [4]: what takes a box of the picture to the canvas."""
        return np.array([self.across, self.down, self.across, self.down])


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row: `image` uint8 [3, height, width], `boxes` float32 [n, 4] in canvas pixels (left, top,
    right, bottom) and `labels` int64 [n]; what is to be ignored is left out."""
    placed = letterbox(decode_image(row["image"]), config.width, config.height)
    kept = row["ignore"] == 0
    boxes = (row["boxes"][kept] * placed.scale).astype(np.float32)
    return {"image": placed.pixels, "boxes": boxes, "labels": row["labels"][kept]}


def letterbox(picture: Image.Image, width: int, height: int) -> Placed:
    """The picture scaled to fit a canvas of width x height, its aspect kept, the rest grey."""
    scale = min(width / picture.width, height / picture.height)
    size = (
        min(width, max(1, round(scale * picture.width))),
        min(height, max(1, round(scale * picture.height))),
    )
    if size != picture.size:
        scaled = picture.resize(size, Image.Resampling.BILINEAR)
    else:
        scaled = picture
    canvas = np.full((3, height, width), GREY, np.uint8)
    canvas[:, : size[1], : size[0]] = np.asarray(scaled).transpose(2, 0, 1)
    return Placed(canvas, size[0] / picture.width, size[1] / picture.height)
