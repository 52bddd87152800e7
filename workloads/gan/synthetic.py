"""Abstract art that is drawn on demand, so that no download is needed.

A picture shows a few figures of one shape in the colours of one palette: shape and palette are its class, and
number, places, sizes, turns, exact colours and light are chance. Who knows the rules draws what was asked
for every time: the best class fidelity is what the judge gets right on real pictures.

    python -m workloads.gan.synthetic FOLDER --pictures 1200 --size 64

writes the same pictures out as files, FOLDER/train/<class>/ and FOLDER/test/<class>/.
"""

from __future__ import annotations

import colorsys
import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from penstock.errors import DataError
from penstock.workload import Item, Row, Scan, Schema
from workloads.gan.config import Data

SHAPES = ("discs", "rings", "stripes", "triangles")
PALETTES = {"ember": (0.99, 0.12), "lagoon": (0.48, 0.64)}
"""Hues from .. to, as shares of the colour circle."""
LABELS = tuple(f"{palette} {shape}" for palette, shape in itertools.product(PALETTES, SHAPES))
FEWEST = 80
SAMPLES = 3  # per pixel and axis, against jagged edges
TESTED = 5  # one in so many is a test picture

Array = NDArray[Any]


class Synthetic:
    """The source `synthetic`: `data.pictures` pictures of `data.size` pixels, as PNG."""

    def scan(self, path: str, config: Data) -> Scan:
        if config.pictures < FEWEST:
            raise DataError(f"data.pictures = {config.pictures}: at least {FEWEST} are needed")
        items = []
        for number in range(config.pictures):
            where = {"number": number, "seed": seed_of(number)}
            items.append(Item(name(number), "test" if tested(number) else "train", where=where))
        return Scan(items, Schema(LABELS, {"channels": 3}), licence="CC0-1.0")

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row]:
        for item in items:
            number = item.where["number"]
            label = schema.labels.index(LABELS[number % len(LABELS)])
            yield {"image": as_png(number, config.size), "label": label, "seed": item.where["seed"]}


def tested(number: int) -> bool:
    return number // len(LABELS) % TESTED == 0


def seed_of(number: int) -> int:
    """The place of a picture among those of its split."""
    block, place = divmod(number, len(LABELS))
    before = block // TESTED if tested(number) else block - 1 - block // TESTED
    return before * len(LABELS) + place


def name(number: int) -> str:
    split = "test" if tested(number) else "train"
    return f"{split}/{LABELS[number % len(LABELS)].replace(' ', '-')}/{number:06d}.png"


def as_png(number: int, side: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(art(number, side)).save(file, "PNG")
    return file.getvalue()


def art(number: int, side: int) -> Array:
    """Picture `number`, of class number % 8, uint8 [side, side, 3]; the same scene at any size."""
    draw = np.random.Generator(np.random.Philox(key=(29, number)))
    palette, shape = LABELS[number % len(LABELS)].split()
    hues = PALETTES[palette]
    fine = side * SAMPLES
    axis = (np.arange(fine) + 0.5) / fine
    x, y = axis[None, :], axis[:, None]
    dark = bool(draw.random() < 0.5)
    canvas = ground(x, y, hues, dark, draw)
    for _ in range(int(draw.integers(2, 5))):
        colour = shade(hues, draw, 0.75 if dark else 0.35)
        inside = FIGURES[shape](x, y, draw)[..., None]
        canvas = canvas * (1 - inside) + colour * inside
    pixels = canvas.reshape(side, SAMPLES, side, SAMPLES, 3).mean((1, 3))
    return np.asarray((255 * (pixels * draw.uniform(0.85, 1.1)).clip(0, 1)).round(), np.uint8)


def shade(hues: tuple[float, float], draw: np.random.Generator, value: float) -> Array:
    """A colour of the palette, float [3] in 0..1."""
    low, high = hues
    hue = (low + draw.random() * ((high - low) % 1.0)) % 1.0
    return np.array(colorsys.hsv_to_rgb(hue, draw.uniform(0.65, 1.0), value + draw.uniform(0, 0.25)))


def ground(x: Array, y: Array, hues: tuple[float, float], dark: bool, draw: np.random.Generator) -> Array:
    """A plain slope between two shades, [n, n, 3]."""
    ends = [shade(hues, draw, 0.05 if dark else 0.75) for _ in range(2)]
    if not dark:  # pale
        ends = [0.6 + 0.4 * end for end in ends]
    angle = draw.uniform(0, 2 * np.pi)
    along = (0.5 + ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)) / 1.5)[..., None]
    return np.asarray(ends[0] * (1 - along) + ends[1] * along)


# ---------------------------------------------------------------- figures: bool [n, n], 1 inside


def disc(x: Array, y: Array, draw: np.random.Generator) -> Array:
    across, down, size = draw.uniform(0.15, 0.85), draw.uniform(0.15, 0.85), draw.uniform(0.12, 0.25)
    return np.asarray((x - across) ** 2 + (y - down) ** 2 < size**2)


def ring(x: Array, y: Array, draw: np.random.Generator) -> Array:
    across, down, size = draw.uniform(0.15, 0.85), draw.uniform(0.15, 0.85), draw.uniform(0.18, 0.3)
    away = np.hypot(x - across, y - down)
    return np.asarray((away < size) & (away > size * draw.uniform(0.55, 0.7)))


def stripe(x: Array, y: Array, draw: np.random.Generator) -> Array:
    angle, place, half = draw.uniform(0, np.pi), draw.uniform(-0.35, 0.35), draw.uniform(0.04, 0.08)
    return np.asarray(np.abs((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) - place) < half)


def triangle(x: Array, y: Array, draw: np.random.Generator) -> Array:
    across, down, size = draw.uniform(0.2, 0.8), draw.uniform(0.2, 0.8), draw.uniform(0.1, 0.17)
    turn = draw.uniform(0, 2 * np.pi)
    inside = np.ones((y.shape[0], x.shape[1]), bool)
    for side in range(3):  # within `size` of the middle, towards each of its sides
        angle = turn + side * 2 * np.pi / 3
        inside &= (x - across) * np.cos(angle) + (y - down) * np.sin(angle) < size
    return inside


FIGURES: dict[str, Callable[[Array, Array, np.random.Generator], Array]] = {
    "discs": disc,
    "rings": ring,
    "stripes": stripe,
    "triangles": triangle,
}


# ---------------------------------------------------------------- written out as files


def write(folder: Path, pictures: int, size: int) -> None:
    """The same pictures as files, a folder per class in train/ and test/."""
    for number in range(pictures):
        file = folder / name(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_png(number, size))


if __name__ == "__main__":
    import argparse

    words = argparse.ArgumentParser(description="Write the synthetic art out as picture files.")
    words.add_argument("folder", type=Path)
    words.add_argument("--pictures", type=int, default=1200)
    words.add_argument("--size", type=int, default=64, help="pixels")
    asked = words.parse_args()
    write(asked.folder, asked.pictures, asked.size)
    print(f"{asked.pictures} pictures of {asked.size} pixels in {asked.folder}")
