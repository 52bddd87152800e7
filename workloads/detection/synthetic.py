"""A drawn road world that no download is needed for: cars, pedestrians, cyclists and traffic lights.

A pinhole camera looks down a street: what is far is small, near the horizon and behind what is near. By day,
dusk or night, in rain or haze. Every colour that an object can have, something else has too (bins, signs,
containers, awnings), so that shape tells and colour does not. A box is the exact extent of the pixels that
can be seen; what is mostly hidden or too small is to be ignored.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from penstock.errors import DataError
from penstock.workload import Item, Row, Scan, Schema
from workloads.detection.config import Data
from workloads.detection.road import LABELS, Scene, street

FEWEST = 40


class Synthetic:
    """The source `synthetic`: `data.pictures` scenes of `data.width` x `data.height` pixels, as JPEG; one in
    five is a test picture."""

    def scan(self, path: str, config: Data) -> Scan:
        if config.pictures < FEWEST:
            raise DataError(f"data.pictures = {config.pictures}: at least {FEWEST} are needed")
        items = [
            Item(f"{n:05d}", "test" if n % 5 == 0 else "train", where={"number": n})
            for n in range(config.pictures)
        ]
        return Scan(items, Schema(LABELS), licence="CC0-1.0", exclusive=False)

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row]:
        for item in items:
            scene = scene_of(item.where["number"], config.width, config.height)
            # of a model's schema, when it is judged on this data
            labels = np.array([schema.labels.index(LABELS[label]) for label in scene.labels], np.int64)
            yield {
                "image": jpeg(scene.picture),
                "boxes": scene.boxes,
                "labels": labels,
                "ignore": scene.ignore,
            }


def scene_of(number: int, width: int, height: int) -> Scene:
    """Scene `number`, always the same."""
    return street(np.random.Generator(np.random.Philox(key=(29, number))), width, height)


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def save(path: str, number: int, width: int, height: int) -> None:
    """Write scene `number` as a JPEG file."""
    Path(path).write_bytes(jpeg(scene_of(number, width, height).picture, quality=80))
