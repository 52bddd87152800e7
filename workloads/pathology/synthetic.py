"""A small generated world of tissue that no download is needed for.

Normal tissue has glands: nuclei in a ring around a pale lumen. In a tumour the same nuclei and lumina lie
about without order. Nothing else tells the two apart (number, size, colour, stain, crowding), so a colour
histogram knows nothing. Who sees the rings makes no mistake: the best score is 1.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from penstock.errors import DataError
from penstock.workload import Item, Row, Scan, Schema
from workloads.pathology.config import Data

LABELS = ("normal", "tumour")
SIDE = 96  # pixels of a picture
FEWEST = 40
PURPLE, PINK = np.array([0.65, 0.70, 0.29]), np.array([0.10, 0.95, 0.25])  # densities of the two stains


class Synthetic:
    """The source `synthetic`: `data.pictures` patches of tissue, as JPEG; one in five is a test picture."""

    def scan(self, path: str, config: Data) -> Scan:
        if config.pictures < FEWEST:
            raise DataError(f"data.pictures = {config.pictures}: at least {FEWEST} are needed")
        items = [
            Item(
                name=f"{LABELS[n % 2]}/{n:05d}.jpg",
                split="test" if n // 2 % 5 == 0 else "train",
                where={"number": n, "label": LABELS[n % 2]},
            )
            for n in range(config.pictures)
        ]
        return Scan(items, Schema(LABELS, {"patch": SIDE}), licence="CC0-1.0")

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row]:
        for item in items:
            draw = np.random.Generator(np.random.Philox(key=(13, item.where["number"])))
            pixels = tissue(item.where["label"] == "tumour", draw)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=90)
            yield {"image": file.getvalue(), "label": schema.labels.index(item.where["label"])}


def tissue(tumour: bool, draw: np.random.Generator, side: int = SIDE) -> np.ndarray[Any, Any]:
    """A picture uint8 [side, side, 3]."""
    glands = scatter(draw, round(draw.integers(2, 5) * (side / SIDE) ** 2), side, apart=30, margin=18)
    lumen = draw.uniform(5, 9, len(glands))
    counts = draw.integers(9, 13, len(glands))
    turns = np.concatenate([np.arange(n) * 2 * np.pi / n + draw.uniform(0, 2 * np.pi) for n in counts])
    radius = np.repeat(lumen, counts) + 4.5 + draw.normal(0, 0.7, len(turns))
    ring = np.repeat(glands, counts, axis=0) + radius[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)
    # Loose nuclei are everywhere, and more or fewer of them: the area of nuclei tells nothing.
    loose = int(draw.integers(0, 20)) + (len(ring) if tumour else 0)
    nuclei = scatter(draw, loose, side, apart=5, margin=4, around=glands, clear=lumen + (4 if tumour else 11))
    heading = draw.uniform(0, np.pi, len(nuclei))
    if not tumour:
        nuclei, heading = np.concatenate([ring, nuclei]), np.concatenate([turns, heading])
    size = draw.uniform(0.8, 1.2)
    long, thin = size * draw.uniform(2.6, 4.0, len(nuclei)), size * draw.uniform(1.6, 2.4, len(nuclei))
    eosin = 0.45 + 0.12 * clouds(draw, side)
    eosin *= 1 - 0.85 * blobs(glands, lumen, lumen, np.zeros(len(glands)), side)
    haematoxylin = 0.05 + 1.1 * blobs(nuclei, long, thin, heading, side)
    # Every slide is stained and lit in its own way.
    stains = [vector * draw.uniform(0.85, 1.15, 3) * draw.uniform(0.6, 1.4) for vector in (PURPLE, PINK)]
    density = haematoxylin[..., None] * stains[0] + eosin[..., None] * stains[1]
    light = draw.uniform(0.85, 1.0, 3) * np.exp(-density) + draw.normal(0, 0.02, density.shape)
    return (255 * light.clip(0, 1)).astype(np.uint8)


def scatter(
    draw: np.random.Generator,
    count: int,
    side: int,
    apart: float,
    margin: float,
    around: Any = ((-np.inf, -np.inf),),
    clear: Any = (0.0,),
) -> np.ndarray[Any, Any]:
    """Points [count, 2] at least `apart` from each other, `margin` from the border and `clear[i]` from
    around[i], as long as there is room."""
    points = np.full((count, 2), -np.inf)
    placed = tries = 0
    while placed < count:
        point, tries = draw.uniform(margin, side - margin, 2), tries + 1
        room = apart * 0.97 ** max(0, tries - 20 * count)  # a crowded picture gets more crowded, not stuck
        if (np.hypot(*(points - point).T) > room).all() and (np.hypot(*(around - point).T) > clear).all():
            points[placed] = point
            placed += 1
    return points


def blobs(centres: Any, long: Any, thin: Any, heading: Any, side: int) -> np.ndarray[Any, Any]:
    """Soft-edged ellipses, the highest of all at each pixel: [side, side] in 0..1."""
    reach = int(1.5 * long.max()) + 2
    window = np.arange(-reach, reach + 1)
    at = np.round(centres).astype(int)[:, :, None] + window  # [N, 2, window]
    x, y = (at - centres[:, :, None])[:, 0, None, :], (at - centres[:, :, None])[:, 1, :, None]
    cos, sin = np.cos(heading)[:, None, None], np.sin(heading)[:, None, None]
    square = ((cos * x + sin * y) / long[:, None, None]) ** 2 + (
        (cos * y - sin * x) / thin[:, None, None]
    ) ** 2
    canvas = np.zeros((side + 2 * reach, side + 2 * reach))
    at = np.clip(at + reach, 0, side + 2 * reach - 1)
    np.maximum.at(
        canvas, (at[:, 1, :, None], at[:, 0, None, :]), 1 / (1 + np.exp(np.minimum(6 * square - 6, 50)))
    )
    return canvas[reach : reach + side, reach : reach + side]


def clouds(draw: np.random.Generator, side: int) -> np.ndarray[Any, Any]:
    """Smooth noise of about unit spread [side, side]: the weave of the stroma."""
    small = Image.fromarray(draw.standard_normal((side // 6, side // 6)).astype(np.float32))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
