"""What stands beside a drawn road and is not to be found: of the same colours, and some of like shape.

Every function makes the shapes of one thing at (x, z) metres: x right of the middle of the road, z away.
"""

from __future__ import annotations

from workloads.detection.solids import RUBBER, STEEL, Block, Draw, Stand, coat, shade
from workloads.detection.sprite import Air, Camera, Sprite


def tree(draw: Draw, camera: Camera, air: Air, x: float, z: float) -> Sprite:
    sprite, stand = Sprite(air, z), Stand(camera, x, z)
    green = (draw.uniform(30, 110), draw.uniform(70, 140), draw.uniform(20, 70))
    trunk, high = draw.uniform(1.2, 2.4), draw.uniform(3.5, 6.0)
    sprite.polygon(stand.quad(-0.15, 0, 0.15, trunk + 0.6), (92, 70, 52))
    for _ in range(7):
        a, b, r = draw.uniform(-0.9, 0.9), draw.uniform(trunk + 0.6, high - 0.4), draw.uniform(0.5, 1.0)
        sprite.oval(stand.box(a - r, b - r, a + r, b + r), shade(green, draw.uniform(0.6, 1.2)))
    return sprite


def sign(draw: Draw, camera: Camera, air: Air, x: float, z: float) -> Sprite:
    """A board on a pole: round, square, three-cornered, or tall and dark, a traffic light without lamps."""
    sprite, stand = Sprite(air, z), Stand(camera, x, z)
    high, half = draw.uniform(1.9, 3.4), draw.uniform(0.28, 0.42)
    sprite.line([stand.at(0, 0), stand.at(0, high)], STEEL, max(1.0, 0.08 * stand.scale))
    rim, inner, kind = coat(draw), coat(draw), draw.integers(4)
    for size, colour in ((half, rim), (half * 0.7, inner)):
        if kind == 0:
            sprite.oval(stand.box(-size, high - size, size, high + size), colour)
        elif kind == 1:
            sprite.polygon(stand.quad(-size, high - size, size, high + size), colour)
        elif kind == 2:
            corners = ((-size, high - 0.8 * size), (size, high - 0.8 * size), (0.0, high + size))
            sprite.polygon([stand.at(*corner) for corner in corners], colour)
        else:
            sprite.polygon(stand.quad(-size * 0.6, high - size, size * 0.6, high + 2 * size), shade(rim, 0.4))
    return sprite


def bin_or_post(draw: Draw, camera: Camera, air: Air, x: float, z: float) -> Sprite:
    """A bin, a post with a ball, a letter box or an advertising column."""
    sprite, stand = Sprite(air, z), Stand(camera, x, z)
    colour, kind = coat(draw), draw.integers(4)
    if kind == 0:
        sprite.polygon(
            [stand.at(-0.25, 0), stand.at(0.25, 0), stand.at(0.32, 0.95), stand.at(-0.32, 0.95)], colour
        )
        sprite.polygon(stand.quad(-0.35, 0.92, 0.35, 1.05), shade(colour, 0.6))
    elif kind == 1:
        sprite.polygon(stand.quad(-0.11, 0, 0.11, 1.0), colour)
        sprite.oval(stand.box(-0.16, 0.95, 0.16, 1.25), coat(draw))
    elif kind == 2:
        sprite.polygon(stand.quad(-0.07, 0, 0.07, 0.8), STEEL)
        sprite.polygon(stand.quad(-0.27, 0.75, 0.27, 1.45), colour)
        sprite.polygon(stand.quad(-0.2, 1.2, 0.2, 1.27), RUBBER)
    else:
        sprite.polygon(stand.quad(-0.5, 0, 0.5, 2.5), colour)
        sprite.polygon(stand.quad(-0.42, 0.6, 0.42, 2.1), coat(draw))
        sprite.oval(stand.box(-0.56, 2.35, 0.56, 2.75), shade(colour, 0.6))
    return sprite


def container(draw: Draw, camera: Camera, air: Air, x: float, z: float, yaw: float) -> Sprite:
    """A box of a car's size and colour, without wheels, windows or lamps."""
    sprite, colour = Sprite(air, z), coat(draw)
    block = Block(sprite, camera, x, z, yaw, draw.uniform(1.5, 2.0), draw.uniform(1.5, 4.0))
    high = draw.uniform(0.9, 1.7)
    block.paint(0.0, high, colour)
    for normal in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        if block.faces_us(*normal):
            stripe = draw.uniform(0.2, 0.8) * high
            sprite.polygon(block.side(normal, stripe * 0.8, stripe, -0.9, 0.9), shade(coat(draw), 0.8))
    return sprite


def street_lamp(draw: Draw, camera: Camera, air: Air, x: float, z: float) -> Sprite:
    sprite, stand = Sprite(air, z), Stand(camera, x, z)
    high, side = draw.uniform(4.0, 6.0), -1 if x > 0 else 1
    sprite.line(
        [stand.at(0, 0), stand.at(0, high), stand.at(side * 1.1, high + 0.2)],
        STEEL,
        max(1.0, 0.1 * stand.scale),
    )
    glows = air.light < 0.5
    left, top, right, bottom = stand.box(side * 1.1 - 0.3, high + 0.05, side * 1.1 + 0.3, high + 0.3)
    sprite.oval((left, top, right, bottom), (255, 225, 160) if glows else (200, 200, 196), glows)
    return sprite
