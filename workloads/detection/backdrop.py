"""Light and weather over a drawn street, and what stands still behind everything: sky, houses, the road."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from workloads.detection.solids import GLASS, Draw, coat, shade
from workloads.detection.sprite import Air, Camera, Colour


def weather(draw: Draw) -> tuple[Air, Colour, float]:
    """(what it does to colours, the colour of the sky, how much it rains, 0..1)"""
    kind = draw.random()
    rain = float(draw.uniform(0.3, 1)) if draw.random() < 0.25 else 0.0
    if kind < 0.55:  # day
        light, sky = draw.uniform(0.75, 1.0), (draw.uniform(140, 200), draw.uniform(170, 215), 235.0)
    elif kind < 0.75:  # dusk
        light, sky = draw.uniform(0.45, 0.7), (draw.uniform(150, 220), draw.uniform(110, 150), 140.0)
    else:
        light, sky = draw.uniform(0.2, 0.38), (18.0, 20.0, draw.uniform(28, 50))
    if rain and light > 0.4:
        grey = 0.33 * sum(sky)
        sky, light = (grey, grey, grey * 1.04), light * 0.8
    hazy = draw.random() < 0.2
    sight = draw.uniform(25, 60) if hazy else 90.0 if rain else 250.0
    haze = shade(sky, 0.9)
    return Air(float(light), 0.55 if light < 0.4 else 0.0, haze, float(sight)), sky, rain


def seen_through(draw: Draw, picture: Image.Image, air: Air, rain: float) -> Image.Image:
    """Rain before the lens, then the camera's own noise and colour cast."""
    width, height = picture.size
    if rain:
        streaks = Image.new("L", picture.size)
        brush = ImageDraw.Draw(streaks)
        slant = draw.uniform(-0.25, 0.25)
        lines = draw.random((int(160 * rain), 3))
        for x, y, long in lines * (1.2 * width, height, 0.09 * height):
            brush.line(
                (x, y, x + slant * long, y + long + 3), fill=int(60 + 70 * rain), width=max(1, width // 320)
            )
        tone = int(90 + 130 * air.light)
        picture.paste((tone, tone, tone), mask=streaks)
        picture = picture.filter(ImageFilter.GaussianBlur(0.5 * rain * width / 320))
    pixels = np.asarray(picture, np.float32)
    noise = draw.standard_normal((height, width, 1), np.float32) * np.float32(draw.uniform(2, 7))
    cast = np.float32(draw.uniform(0.9, 1.08, 3))
    return Image.fromarray((pixels * cast + noise).clip(0, 255).astype(np.uint8))


def background(draw: Draw, camera: Camera, air: Air, sky: Colour) -> Image.Image:
    """Sky, houses, pavements and the road."""
    width, height = camera.width, camera.height
    rows = np.arange(height, dtype=np.float32)[:, None]
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = np.array(sky, np.float32) * (1 - 0.25 * (1 - rows / camera.horizon).clip(0, 1)[..., None])
    picture = Image.fromarray(pixels.astype(np.uint8))
    brush = ImageDraw.Draw(picture)
    for side in (-1, 1):
        houses(draw, brush, camera, air, side)
    ground(draw, brush, camera, air)
    return picture


def quad(
    brush: ImageDraw.ImageDraw, camera: Camera, corners: list[tuple[float, float, float]], colour: Any
) -> None:
    brush.polygon([camera.at(*corner) for corner in corners], fill=colour)


def houses(draw: Draw, brush: ImageDraw.ImageDraw, camera: Camera, air: Air, side: int) -> None:
    """A row of fronts along one side, far ones first; windows, and shops with awnings of any colour."""
    x, z = side * draw.uniform(9, 12), 120.0
    night = air.light < 0.5
    while z > 5:
        deep = draw.uniform(6, 16)
        near = max(3.0, z - deep)
        if draw.random() < 0.85:
            high, wall = draw.uniform(4, 12), coat(draw)
            wall = (60 + 0.6 * wall[0], 60 + 0.6 * wall[1], 60 + 0.6 * wall[2])
            front = [(x, 0.0, z), (x, 0.0, near), (x, high, near), (x, high, z)]
            quad(brush, camera, front, air.seen(wall, near))
            back = [(x, 0.0, near), (x + side * 8, 0.0, near), (x + side * 8, high, near), (x, high, near)]
            quad(brush, camera, back, air.seen(shade(wall, 0.8), near))
            step = (z - near) / 4
            for floor in np.arange(1.0, high - 2, 2.8) if near < 50 else ():  # farther ones are too small
                for k in range(4):
                    a = near + (k + 0.25) * step
                    lit = night and draw.random() < 0.3
                    pane = (250.0, 215.0, 140.0) if lit else GLASS
                    window = [
                        (x, floor, a),
                        (x, floor, a + step / 2),
                        (x, floor + 1.5, a + step / 2),
                        (x, floor + 1.5, a),
                    ]
                    quad(brush, camera, window, air.seen(pane, a, lit))
            if draw.random() < 0.5:
                lit = night and draw.random() < 0.5
                shop = [(x, 2.6, z), (x, 2.6, near), (x, 3.4, near), (x, 3.4, z)]
                quad(brush, camera, shop, air.seen(coat(draw), near, lit))
        z = near if near > 3 else 0


def ground(draw: Draw, brush: ImageDraw.ImageDraw, camera: Camera, air: Air) -> None:
    """Strips of pavement and asphalt by distance, with markings."""
    tone = draw.uniform(70, 110)
    asphalt, walk = (tone, tone, tone + 4), (draw.uniform(110, 160),) * 3
    edges = [400.0, 60, 35, 24, 17, 13, 10, 8, 6.5, 5.2, 4.2, 3.4, 2.8, 2.3, 1.9]
    for far, near in pairwise(edges):
        for half, colour in ((400.0, walk), (6.0, (60.0, 60.0, 62.0)), (5.8, asphalt)):
            strip = [(-half, 0.0, far), (half, 0.0, far), (half, 0.0, near), (-half, 0.0, near)]
            quad(brush, camera, strip, air.seen(colour, near))
    paint = (225.0, 225.0, 215.0)
    for z in np.arange(3 + draw.uniform(0, 4), 60, 4.5):
        dash = [(-0.08, 0.0, z + 2), (0.08, 0.0, z + 2), (0.08, 0.0, z), (-0.08, 0.0, z)]
        quad(brush, camera, dash, air.seen(paint, z))
    if draw.random() < 0.35:
        z = draw.uniform(6, 20)
        for x in np.arange(-5, 5, 1.0):
            bar = [(x, 0.0, z + 2.5), (x + 0.5, 0.0, z + 2.5), (x + 0.5, 0.0, z), (x, 0.0, z)]
            quad(brush, camera, bar, air.seen(paint, z))
    for _ in range(draw.integers(0, 4)):  # patches of any colour on the ground: puddles, leaves, paint
        x, z, r = draw.uniform(-8, 8), draw.uniform(4, 20), draw.uniform(0.3, 1.2)
        rim = [(x + r * np.cos(t), 0.0, z + r * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 14)]
        quad(brush, camera, rim, air.seen(coat(draw), z))
