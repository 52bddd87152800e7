"""Any picture to the square that the networks see, and back."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from penstock.media import decode_image
from penstock.workload import Row, Schema
from workloads.gan.config import Data

FILE_PIXELS = 80_000_000


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row: `image` uint8 [C, size, size] and `label` (0 where there are no classes)."""
    image = square(row["image"], config.size, int(schema.fields["channels"]))
    return {"image": image, "label": int(row.get("label", 0))}


def square(raw: bytes, size: int, channels: int) -> NDArray[Any]:
    """JPEG or PNG cropped to its middle square and scaled, uint8 [channels, size, size]; ValueError says what
    is wrong with it."""
    picture = decode_image(raw, FILE_PIXELS)
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    if channels == 1:
        return np.asarray(picture.convert("L"))[None]
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def png(image: NDArray[Any]) -> bytes:
    """PNG of uint8 [1 or 3, rows, columns]."""
    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def grid(images: Sequence[NDArray[Any]], columns: int = 0, gap: int = 1) -> NDArray[Any]:
    """Pictures uint8 [C, S, S] side by side, row by row, about as wide as high unless `columns` says: uint8
    [C, height, width], white between them."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    channels, side = images[0].shape[0], images[0].shape[-1]
    step = side + gap
    sheet = np.full((channels, rows * step - gap, columns * step - gap), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * step, place % columns * step
        sheet[:, top : top + side, left : left + side] = image
    return sheet
