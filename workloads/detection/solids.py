"""Solids and flat shapes on a road, and colours for them."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from workloads.detection.sprite import Camera, Colour, Point, Sprite

RUBBER, GLASS, STEEL = (26.0, 26.0, 28.0), (58.0, 72.0, 90.0), (120.0, 122.0, 126.0)
Draw = np.random.Generator


def coat(draw: Draw) -> Colour:
    """A colour that anything may have: of cars, clothes, bins, signs alike."""
    if draw.random() < 0.4:
        grey = float(draw.uniform(25, 245))
        return (grey, grey, grey * float(draw.uniform(0.95, 1.05)))
    red, green, blue = colorsys.hsv_to_rgb(draw.random(), draw.uniform(0.35, 0.95), draw.uniform(0.3, 1.0))
    return (255 * red, 255 * green, 255 * blue)


def shade(colour: Colour, share: float) -> Colour:
    return (colour[0] * share, colour[1] * share, colour[2] * share)


class Block:
    """A cuboid on the road, turned by `yaw` radians; faces can be painted on."""

    def __init__(
        self, sprite: Sprite, camera: Camera, x: float, z: float, yaw: float, width: float, length: float
    ) -> None:
        self.sprite, self.camera = sprite, camera
        self.x, self.z, self.width, self.length = x, z, width, length
        self.cos, self.sin = math.cos(yaw), math.sin(yaw)

    def at(self, across: float, up: float, along: float) -> Point:
        """`across` and `along` in -1..1 from side to side and from back to front, `up` in metres."""
        a, b = across * self.width / 2, along * self.length / 2
        depth = max(0.6, self.z - a * self.sin + b * self.cos)
        return self.camera.at(self.x + a * self.cos + b * self.sin, up, depth)

    def faces_us(self, across: float, along: float) -> bool:
        """Whether the side with this outward normal is turned to the camera."""
        normal = (across * self.cos + along * self.sin, -across * self.sin + along * self.cos)
        a, b = across * self.width / 2, along * self.length / 2
        x = self.x + a * self.cos + b * self.sin - self.camera.x
        z = self.z - a * self.sin + b * self.cos
        return normal[0] * x + normal[1] * z < 0

    def side(self, normal: tuple[int, int], low: float, high: float, start: float, end: float) -> list[Point]:
        """A rectangle of the side with that normal: from `low` to `high` metres, -1..1 along the side."""
        corners = [(start, low), (end, low), (end, high), (start, high)]
        if normal[0]:
            return [self.at(normal[0], up, along) for along, up in corners]
        return [self.at(across, up, normal[1]) for across, up in corners]

    def paint(self, low: float, high: float, colour: Colour, shrink: float = 1.0) -> None:
        """The sides and the top that can be seen; `shrink`: of the top along the block."""
        for normal, share in (((1, 0), 0.8), ((-1, 0), 0.86), ((0, 1), 0.95), ((0, -1), 0.95)):
            if self.faces_us(*normal):
                corners = self.side(normal, low, high, -1, 1)[:2]
                for end in (1, -1):
                    across, along = (normal[0], end) if normal[0] else (end, normal[1])
                    corners.append(self.at(across, high, along * shrink))
                self.sprite.polygon(corners, shade(colour, share))
        if high < self.camera.y:
            top = [self.at(a, high, b * shrink) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            self.sprite.polygon(top, colour)


class Stand:
    """A flat thing that faces us: metres to the right of its middle and up from the ground to pixels."""

    def __init__(self, camera: Camera, x: float, z: float, squeeze: float = 1.0) -> None:
        self.left, self.ground = camera.at(x, 0.0, z)
        self.scale = camera.focal / z
        self.squeeze = squeeze

    def at(self, right: float, up: float) -> Point:
        return self.left + self.scale * right * self.squeeze, self.ground - self.scale * up

    def box(self, left: float, bottom: float, right: float, top: float) -> tuple[float, float, float, float]:
        return (*self.at(left, top), *self.at(right, bottom))

    def quad(self, left: float, bottom: float, right: float, top: float) -> list[Point]:
        return [self.at(left, bottom), self.at(right, bottom), self.at(right, top), self.at(left, top)]
