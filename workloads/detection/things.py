"""The four kinds to be found on a drawn road: cars, pedestrians, cyclists and traffic lights.

Every function makes the shapes of one thing at (x, z) metres: x right of the middle of the road, z away.
"""

from __future__ import annotations

import math

import numpy as np

from workloads.detection.solids import GLASS, RUBBER, STEEL, Block, Draw, Stand, coat, shade
from workloads.detection.sprite import Air, Camera, Colour, Sprite

SKINS = ((236.0, 200.0, 172.0), (198.0, 148.0, 112.0), (128.0, 84.0, 58.0), (84.0, 56.0, 42.0))
LAMPS = ((240.0, 50.0, 40.0), (250.0, 190.0, 40.0), (60.0, 225.0, 120.0))  # from the top


def car(draw: Draw, camera: Camera, air: Air, x: float, z: float, yaw: float) -> Sprite:
    sprite = Sprite(air, z)
    colour = coat(draw)
    van = draw.random() < 0.25
    width, length = draw.uniform(1.7, 1.95), draw.uniform(3.7, 4.8)
    waist, roof = draw.uniform(0.8, 0.95), draw.uniform(1.38, 1.6) + 0.4 * van
    block = Block(sprite, camera, x, z, yaw, width, length)
    # the shadow keeps the car on the ground
    sprite.polygon([block.at(a, 0.0, b) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))], (22, 22, 24))
    block.paint(0.28, waist, colour)
    for across in (1, -1):
        if block.faces_us(across, 0):
            for along in (-0.62, 0.62):
                wheel(sprite, block, across, along)
    cabin = Block(sprite, camera, x, z, yaw, width * 0.94, length * (0.92 if van else 0.62))
    cabin.paint(waist, roof, shade(colour, 0.95), shrink=0.9 if van else 0.72)
    glass = shade(GLASS, draw.uniform(0.6, 1.5))
    for across in (1, -1):
        if cabin.faces_us(across, 0):
            for start, end in ((-0.78, -0.08), (0.02, 0.72)):
                pane = cabin.side((across, 0), waist + 0.04, roof - 0.09, start, end)
                pane[2:] = [
                    cabin.at(across, roof - 0.09, end * 0.84),
                    cabin.at(across, roof - 0.09, start * 0.84),
                ]
                sprite.polygon(pane, glass)
    lit = air.light < 0.5
    for along in (1, -1):
        if not block.faces_us(0, along):
            continue
        slope = 0.9 if van else 0.74
        pane = [cabin.at(a, waist + 0.03, along * 0.99) for a in (-0.86, 0.86)]
        pane += [cabin.at(a, roof - 0.08, along * slope) for a in (0.8, -0.8)]
        sprite.polygon(pane, glass)
        sprite.polygon(block.side((0, along), 0.28, 0.42, -1, 1), shade(colour, 0.55))
        sprite.polygon(block.side((0, along), 0.44, 0.56, -0.26, 0.26), (225, 225, 215))
        lamp = (
            ((250, 245, 215) if along > 0 else (200, 24, 24))
            if lit
            else ((228, 228, 222), (150, 20, 20))[along < 0]
        )
        for side in (-1, 1):
            sprite.polygon(block.side((0, along), 0.56, 0.74, side * 0.96, side * 0.62), lamp, glows=lit)
    return sprite


def wheel(sprite: Sprite, block: Block, across: float, along: float) -> None:
    radius, turns = 0.33, np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for size, colour in ((1.0, RUBBER), (0.5, STEEL)):
        rim = [
            block.at(
                across * 1.01,
                radius * (1 + size * math.sin(t)),
                along + 2 * radius * size * math.cos(t) / block.length,
            )
            for t in turns
        ]
        sprite.polygon(rim, colour)


def person(draw: Draw, camera: Camera, air: Air, x: float, z: float) -> Sprite:
    sprite = Sprite(air, z)
    tall = draw.uniform(1.5, 1.95)
    stand = Stand(camera, x, z, squeeze=tall / 1.75 * (-1 if draw.random() < 0.5 else 1))
    unit, scale = tall / 1.75, camera.focal / z
    shirt, trousers, skin = coat(draw), coat(draw), SKINS[draw.integers(len(SKINS))]
    stride, swing = draw.uniform(0.03, 0.3), draw.uniform(0.02, 0.26)

    def limb(points: list[tuple[float, float]], colour: Colour, width: float) -> None:
        sprite.line([stand.at(a, unit * b) for a, b in points], colour, max(1.0, width * scale))

    limb([(0.0, 1.36), (-swing - 0.16, 1.08), (-swing - 0.1, 0.86)], shade(shirt, 0.75), 0.1)
    skirt = draw.random() < 0.25
    for side, dark in ((-1, 0.8), (1, 1.0)):
        limb([(0.04 * side, 0.88), (side * stride * 0.6 + 0.03, 0.46)], shade(trousers, dark), 0.17)
        limb(
            [(side * stride * 0.6 + 0.03, 0.46), (side * stride, 0.05)],
            shade(skin if skirt else trousers, dark),
            0.13,
        )
        limb([(side * stride - 0.04, 0.03), (side * stride + 0.12, 0.03)], RUBBER, 0.07)
    if skirt:
        sprite.polygon(
            [stand.at(a, unit * b) for a, b in ((-0.16, 0.95), (0.16, 0.95), (0.27, 0.5), (-0.27, 0.5))],
            trousers,
        )
    body = [(-0.17, 0.86), (0.17, 0.86), (0.22, 1.38), (0.1, 1.46), (-0.1, 1.46), (-0.22, 1.38)]
    sprite.polygon([stand.at(a, unit * b) for a, b in body], shirt)
    limb([(0.16, 1.36), (swing + 0.12, 1.08), (swing + 0.2, 0.88)], shade(shirt, 0.9), 0.1)
    if draw.random() < 0.3:  # a bag
        sprite.polygon(
            [stand.at(a, unit * b) for a, b in ((-0.36, 0.98), (-0.16, 0.98), (-0.16, 1.36), (-0.36, 1.36))],
            coat(draw),
        )
    head(sprite, stand, unit, 0.0, 1.6, skin, draw)
    return sprite


def head(
    sprite: Sprite, stand: Stand, unit: float, right: float, up: float, skin: Colour, draw: Draw
) -> None:
    x, y = stand.at(right, unit * up)
    radius = 0.125 * stand.scale
    sprite.oval((x - radius, y - 1.2 * radius, x + radius, y + 1.2 * radius), skin)
    hair = coat(draw) if draw.random() < 0.4 else (40, 30, 24)
    sprite.oval((x - 1.05 * radius, y - 1.3 * radius, x + 1.05 * radius, y - 0.1 * radius), hair)


def cyclist(draw: Draw, camera: Camera, air: Air, x: float, z: float) -> Sprite:
    """On a bicycle, seen from the side or at an angle."""
    sprite = Sprite(air, z)
    squeeze = float(draw.uniform(0.45, 1.0)) * (-1 if draw.random() < 0.5 else 1)
    stand, scale = Stand(camera, x, z, squeeze), camera.focal / z
    frame, shirt, trousers = coat(draw), coat(draw), coat(draw)
    skin = SKINS[draw.integers(len(SKINS))]

    def limb(points: list[tuple[float, float]], colour: Colour, width: float) -> None:
        sprite.line([stand.at(a, b) for a, b in points], colour, max(1.0, width * scale))

    for middle in (-0.53, 0.53):
        left, top, right, bottom = stand.box(middle - 0.34, 0.0, middle + 0.34, 0.68)
        sprite.ring((min(left, right), top, max(left, right), bottom), RUBBER, max(1.0, 0.07 * scale))
    limb([(-0.53, 0.34), (-0.18, 0.32), (0.38, 0.78), (-0.28, 0.8), (-0.18, 0.32)], frame, 0.05)
    limb([(-0.53, 0.34), (-0.28, 0.8)], frame, 0.05)
    limb([(0.53, 0.34), (0.38, 0.98), (0.5, 1.02)], frame, 0.05)
    knee = draw.uniform(-0.12, 0.12)
    limb([(-0.26, 0.95), (0.08, 0.68 - knee), (-0.12, 0.22 - knee)], shade(trousers, 0.75), 0.14)
    limb([(-0.26, 0.95), (0.12, 0.72 + knee), (-0.1, 0.26 + knee)], trousers, 0.15)
    body = [(-0.4, 0.92), (-0.14, 0.86), (0.2, 1.36), (0.1, 1.46), (-0.1, 1.42)]
    sprite.polygon([stand.at(a, b) for a, b in body], shirt)
    limb([(0.12, 1.36), (0.26, 1.12), (0.46, 1.03)], shade(shirt, 0.85), 0.1)
    head(sprite, stand, 1.0, 0.2, 1.58, skin, draw)
    if draw.random() < 0.5:  # a helmet
        x0, y0 = stand.at(0.2, 1.66)
        sprite.oval((x0 - 0.15 * scale, y0 - 0.09 * scale, x0 + 0.15 * scale, y0 + 0.07 * scale), coat(draw))
    return sprite


def pole(camera: Camera, air: Air, x: float, z: float, high: float, colour: Colour = STEEL) -> Sprite:
    sprite, stand = Sprite(air, z), Stand(camera, x, z)
    sprite.line([stand.at(0, 0), stand.at(0, high)], colour, max(1.0, 0.12 * stand.scale))
    return sprite


def traffic_light(draw: Draw, camera: Camera, air: Air, x: float, z: float, low: float) -> Sprite:
    """The housing alone, from `low` metres up."""
    sprite, stand = Sprite(air, z), Stand(camera, x, z)
    housing = coat(draw) if draw.random() < 0.3 else shade((60, 62, 60), draw.uniform(0.4, 1.2))
    wide, high = 0.26, 1.3
    sprite.polygon(stand.quad(-wide, low, wide, low + high), housing)
    sprite.polygon(stand.quad(-wide + 0.05, low + 0.05, wide - 0.05, low + high - 0.05), shade(housing, 0.5))
    on = int(draw.integers(3))
    for place, colour in enumerate(LAMPS):
        y = low + high - 0.26 - 0.39 * place
        lit = place == on
        sprite.oval(stand.box(-0.16, y - 0.16, 0.16, y + 0.16), colour if lit else shade(colour, 0.16), lit)
    return sprite
