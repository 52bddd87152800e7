"""Shapes drawn once with smooth edges, and a camera that says where they go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

FINER = 2  # shapes are drawn so much larger and scaled down: smooth edges
Colour = tuple[float, float, float]  # red, green, blue, 0..255
Point = tuple[float, float]


class Air(NamedTuple):
    """What light and weather do to a colour."""

    light: float  # of the sky, 0..1
    lamps: float  # of our own headlights at no distance, 0..1
    haze: Colour  # what everything fades to
    sight: float  # metres after which haze hides two thirds; inf: none

    def seen(self, colour: Colour, away: float, glows: bool = False) -> tuple[int, int, int]:
        """A colour `away` metres; what glows needs no light."""
        clear = math.exp(-away / self.sight)
        light = clear * (1.0 if glows else min(1.0, self.light + self.lamps * math.exp(-away / 14)))
        red, green, blue = colour
        grey, grey2, grey3 = self.haze
        return (
            min(255, int(light * red + (1 - clear) * grey)),
            min(255, int(light * green + (1 - clear) * grey2)),
            min(255, int(light * blue + (1 - clear) * grey3)),
        )


class Camera(NamedTuple):
    """A pinhole camera over the road. Metres: x to the right, y up from the ground, z away."""

    width: int  # pixels of the picture
    height: int
    focal: float  # pixels
    middle: float  # pixels from the left, where the road vanishes
    horizon: float  # pixels from the top
    x: float  # metres right of the middle of the road
    y: float  # metres above it

    def at(self, x: float, y: float, z: float) -> Point:
        """Where a point is seen, pixels."""
        scale = self.focal / z
        return self.middle + scale * (x - self.x), self.horizon + scale * (self.y - y)


@dataclass
class Sprite:
    """Shapes of one thing, in pixels of the picture; drawn in their order."""

    air: Air
    away: float  # metres
    shapes: list[tuple[str, list[Point], tuple[int, int, int], float]] = field(default_factory=list)

    def polygon(self, points: Sequence[Point], colour: Colour, glows: bool = False) -> None:
        self.shapes.append(("polygon", list(points), self.air.seen(colour, self.away, glows), 0.0))

    def oval(self, box: Sequence[float], colour: Colour, glows: bool = False) -> None:
        """`box`: left, top, right, bottom."""
        corners = [(box[0], box[1]), (box[2], box[3])]
        self.shapes.append(("ellipse", corners, self.air.seen(colour, self.away, glows), 0.0))

    def ring(self, box: Sequence[float], colour: Colour, width: float) -> None:
        corners = [(box[0], box[1]), (box[2], box[3])]
        self.shapes.append(("ring", corners, self.air.seen(colour, self.away), width))

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        self.shapes.append(("line", list(points), self.air.seen(colour, self.away), width))

    def drawn(self, most: int) -> tuple[Image.Image, int, int] | None:
        """(RGBA, its left and upper edge in the picture); None when it would be larger than `most` pixels
        a side, or than nothing."""
        corners = np.array([point for _, points, _, _ in self.shapes for point in points])
        grow = max(width for *_, width in self.shapes) / 2 + 1
        left, top = np.floor(corners.min(0) - grow).astype(int)
        right, bottom = np.ceil(corners.max(0) + grow).astype(int)
        if max(right - left, bottom - top) > most:
            return None
        picture = Image.new("RGBA", ((right - left) * FINER, (bottom - top) * FINER))
        brush = ImageDraw.Draw(picture)
        for kind, points, colour, width in self.shapes:
            at: list[Any] = [((x - left) * FINER, (y - top) * FINER) for x, y in points]
            thick = max(FINER, round(width * FINER))
            if kind == "polygon":
                brush.polygon(at, fill=colour)
            elif kind == "line":
                brush.line(at, fill=colour, width=thick, joint="curve")
            elif kind == "ring":
                brush.ellipse(at, outline=colour, width=thick)
            else:
                brush.ellipse(at, fill=colour)
        return picture.reduce(FINER), int(left), int(top)
