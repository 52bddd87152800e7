"""A drawn street: where everything is, what hides what, and the boxes that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from workloads.detection import furniture, things
from workloads.detection.backdrop import background, seen_through, weather
from workloads.detection.solids import Draw
from workloads.detection.sprite import Air, Camera, Sprite

LABELS = ("car", "pedestrian", "cyclist", "light")
CAR, PEDESTRIAN, CYCLIST, LIGHT = range(4)
OTHER = -1
LANES = ((1.9, 0.0), (-1.9, np.pi), (4.7, 0.0), (-4.7, np.pi))  # metres, radians: ours, theirs, parked
SEEN = 0.25  # share of a thing that must be in sight for it to be looked for
SMALLEST, LONGEST = 4.0, 7.0  # pixels of a picture 320 wide: what is smaller is not looked for either
SOLID = [0] * 128 + [255] * 128  # by opacity: which pixels belong to a thing


class Scene(NamedTuple):
    picture: Image.Image
    boxes: np.ndarray[Any, Any]  # float32 [n, 4], the pixels that can be seen
    labels: np.ndarray[Any, Any]  # int64 [n]
    ignore: np.ndarray[Any, Any]  # uint8 [n]


class Thing(NamedTuple):
    label: int  # OTHER: not to be found
    sprite: Sprite


def street(draw: Draw, width: int, height: int) -> Scene:
    """A scene of width x height pixels, the same for the same generator."""
    camera = Camera(
        width,
        height,
        focal=0.9 * width,
        middle=width * draw.uniform(0.38, 0.62),
        horizon=height * draw.uniform(0.36, 0.48),
        x=draw.uniform(-0.5, 3.0),
        y=draw.uniform(1.4, 2.0),
    )
    air, sky, rain = weather(draw)
    picture = background(draw, camera, air, sky)
    there = sorted(populate(draw, camera, air), key=lambda thing: -thing.sprite.away)
    owner = Image.new("L", (width, height))  # which thing each pixel shows
    sizes = []  # pixels of each thing, hidden ones too
    for number, thing in enumerate(there, start=1):
        drawn = thing.sprite.drawn(most=3 * width)
        if drawn is None:
            sizes.append(0)
            continue
        paint, left, top = drawn
        solid = paint.getchannel("A").point(SOLID)
        picture.paste(paint, (left, top), paint)
        owner.paste(number, (left, top), solid)
        sizes.append(solid.histogram()[255])
    boxes, labels, ignore = visible(there, sizes, np.asarray(owner), width / 320)
    return Scene(seen_through(draw, picture, air, rain), boxes, labels, ignore)


def visible(
    there: list[Thing], sizes: list[int], owner: np.ndarray[Any, Any], unit: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(boxes, labels, ignore) of what is to be found and can be seen at all."""
    boxes, labels, ignore = [], [], []
    for number, (thing, size) in enumerate(zip(there, sizes, strict=True), start=1):
        if thing.label == OTHER or not size:
            continue
        mine = owner == number
        across, down = np.flatnonzero(mine.any(0)), np.flatnonzero(mine.any(1))
        if not len(across):
            continue
        box = [across[0], down[0], across[-1] + 1, down[-1] + 1]
        sides = sorted((box[2] - box[0], box[3] - box[1]))
        boxes.append(box)
        labels.append(thing.label)
        small = sides[0] < SMALLEST * unit or sides[1] < LONGEST * unit
        ignore.append(small or mine.sum() < SEEN * size)
    return (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignore, np.uint8),
    )


# ---------------------------------------------------------------- what moves, and what stands beside it


class Plan:
    """Where things stand: no two on the same spot."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.taken: list[tuple[float, float, float]] = []  # x, z and room around, metres

    def spot(
        self, x: Callable[[], float], near: float, far: float, room: float
    ) -> tuple[float, float] | None:
        """A free (x, z), z from `near` to `far` metres, nearer ones more often; None when none was found."""
        for _ in range(8):
            at = x(), float(np.exp(self.draw.uniform(np.log(near), np.log(far))))
            if all((at[0] - a) ** 2 + ((at[1] - b) / 1.6) ** 2 > (room + r) ** 2 for a, b, r in self.taken):
                self.taken.append((*at, room))
                return at
        return None


def populate(draw: Draw, camera: Camera, air: Air) -> list[Thing]:
    """Everything on the street."""
    plan = Plan(draw)
    found = []
    if draw.random() > 0.03:  # else a street without anybody
        found = [
            *cars(draw, camera, air, plan),
            *people(draw, camera, air, plan),
            *lights(draw, camera, air, plan),
        ]
    return [*found, *beside(draw, camera, air, plan)]


def cars(draw: Draw, camera: Camera, air: Air, plan: Plan) -> Iterator[Thing]:
    for _ in range(draw.integers(0, 6)):
        lane, yaw = LANES[draw.integers(len(LANES))]
        yaw += draw.normal(0, 0.08)
        if draw.random() < 0.3:  # turning, crossing, parked anyhow
            lane, yaw = draw.uniform(-7, 7), draw.uniform(0, 2 * np.pi)
        middle = lane + draw.normal(0, 0.25)
        if at := plan.spot(lambda middle=middle: middle, 6.5, 36, room=1.3):  # type: ignore[misc]
            yield Thing(CAR, things.car(draw, camera, air, *at, yaw))


def people(draw: Draw, camera: Camera, air: Air, plan: Plan) -> Iterator[Thing]:
    def walked() -> float:
        return pavement(draw) if draw.random() < 0.65 else draw.uniform(-5.5, 5.5)

    for _ in range(draw.integers(0, 5)):
        if at := plan.spot(walked, 5, 20, room=0.4):
            yield Thing(PEDESTRIAN, things.person(draw, camera, air, *at))
    for _ in range(draw.integers(0, 4)):
        if at := plan.spot(lambda: draw.uniform(-6, 6), 5.5, 22, room=0.6):
            yield Thing(CYCLIST, things.cyclist(draw, camera, air, *at))


def lights(draw: Draw, camera: Camera, air: Air, plan: Plan) -> Iterator[Thing]:
    for _ in range(draw.integers(0, 4)):
        if at := plan.spot(lambda: beside_road(draw, 5.2, 6.8), 7, 22, room=0.3):
            low = draw.uniform(2.0, 3.2)
            yield Thing(OTHER, things.pole(camera, air, *at, low + 0.3))
            yield Thing(LIGHT, things.traffic_light(draw, camera, air, *at, low))


def beside(draw: Draw, camera: Camera, air: Air, plan: Plan) -> Iterator[Thing]:
    for make, most, far in (
        (furniture.tree, 4, 40),
        (furniture.sign, 4, 25),
        (furniture.bin_or_post, 5, 20),
        (furniture.street_lamp, 3, 40),
    ):
        for _ in range(draw.integers(0, most + 1)):
            if at := plan.spot(lambda: pavement(draw), 6, far, room=0.4):
                yield Thing(OTHER, make(draw, camera, air, *at))
    for _ in range(draw.integers(0, 3)):
        if at := plan.spot(lambda: beside_road(draw, 4.8, 8), 7, 30, room=1.3):
            yield Thing(OTHER, furniture.container(draw, camera, air, *at, draw.normal(0, 0.4)))


def pavement(draw: Draw) -> float:
    return beside_road(draw, 6.2, 8.8)


def beside_road(draw: Draw, near: float, far: float) -> float:
    """Metres from the middle of the road, on either side."""
    return float(draw.choice((-1, 1)) * draw.uniform(near, far))
