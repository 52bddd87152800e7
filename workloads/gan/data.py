"""Any picture to the square that the networks see."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from penstock.media import decode_image
from penstock.workload import Row, Schema
from workloads.gan.config import Data

FILE_PIXELS = 80_000_000


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row: `image` uint8 [C, size, size] and `label` (0 where there are no classes)."""
    image = square(row["image"], config.size, int(schema.fields["channels"]))
    return {"image": image, "label": int(row.get("label", 0))}


def square(raw: bytes, size: int, channels: int) -> np.ndarray[Any, Any]:
    """JPEG or PNG cropped to its middle square and scaled, uint8 [channels, size, size]; ValueError says what
    is wrong with it."""
    picture = decode_image(raw, FILE_PIXELS)
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    if channels == 1:
        return np.asarray(picture.convert("L"))[None]
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def png(image: np.ndarray[Any, Any]) -> bytes:
    """PNG of uint8 [1 or 3, S, S]."""
    import io

    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()
