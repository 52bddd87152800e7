"""Seeds to pictures: the only inference code of this workload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.errors import nearest
from penstock.workload import Model, Refusal
from workloads.gan.config import Config
from workloads.gan.data import grid, png
from workloads.gan.messages import GanAnswer, GanRequest
from workloads.gan.model import build_generator, known_classes

STREAM = 0x67616E  # keeps these draws apart from all others by seed


class Wish(NamedTuple):
    """What one picture is made from."""

    noise: NDArray[Any]  # float32 [Z]
    shares: NDArray[Any]  # float32 [K], of the classes
    label: str | None
    seed: int | None


class GanPredictor:
    """A loaded generator, answering a batch of requests at a time."""

    def __init__(self, model: Model[Config], device: str) -> None:
        self.labels = model.schema.labels if known_classes(model.config, model.schema) else ()
        self.device = device
        self.generator = build_generator(model.config, model.schema)
        prefix = "generator."
        own = {name[len(prefix) :]: value for name, value in model.weights.items() if name.startswith(prefix)}
        self.generator.load_state_dict(own)
        self.generator.float().to(device).eval().requires_grad_(False)

    def predict(self, requests: Sequence[GanRequest]) -> list[GanAnswer | Refusal]:
        return [self.answer(request) for request in requests]

    def answer(self, request: GanRequest) -> GanAnswer | Refusal:
        if request.label is not None and request.label not in self.labels:
            if not self.labels:
                return Refusal(f"{request.label!r}: this model knows no classes; leave label out", "/label")
            known = ", ".join(self.labels)
            return Refusal(
                f"no label {request.label!r}{nearest(request.label, self.labels)}; known: {known}", "/label"
            )
        wishes = self.between(request) if request.to_seed is not None else self.row(request)
        images = [self.draw(wish) for wish in wishes]
        return GanAnswer(
            images=[png(image) for image in images],
            labels=[wish.label for wish in wishes],
            seeds=[wish.seed for wish in wishes],
            picture=png(grid(images)) if request.picture else None,
        )

    def row(self, request: GanRequest) -> list[Wish]:
        seeds = range(request.seed, request.seed + request.count)
        return [self.wish(seed, request.label, request.truncation) for seed in seeds]

    def between(self, request: GanRequest) -> list[Wish]:
        """From one seed to the other: noise along the great circle, classes in a straight line."""
        assert request.to_seed is not None
        first, last = (
            self.wish(seed, request.label, request.truncation) for seed in (request.seed, request.to_seed)
        )
        wishes = [first]
        for step in range(1, request.steps - 1):
            share = step / (request.steps - 1)
            noise = slerp(first.noise, last.noise, share)
            shares = (1 - share) * first.shares + share * last.shares
            label = first.label if first.label == last.label else None
            wishes.append(Wish(noise, np.asarray(shares, np.float32), label, None))
        return [*wishes, last]

    def wish(self, seed: int, label: str | None, truncation: float) -> Wish:
        draw = np.random.Generator(np.random.Philox(key=(seed, STREAM)))
        noise = draw.standard_normal(self.generator.noise, dtype=np.float32)
        own = int(draw.integers(len(self.labels))) if self.labels else 0  # drawn also where it is not used
        shares = np.zeros(len(self.labels), np.float32)
        if self.labels:
            own = self.labels.index(label) if label is not None else own
            shares[own] = 1
            label = self.labels[own]
        return Wish(np.asarray(truncation * noise, np.float32), shares, label, seed)

    @torch.inference_mode()
    def draw(self, wish: Wish) -> NDArray[Any]:
        """uint8 [C, S, S]. One picture at a time: which others are asked for then changes no bit of it."""
        noise, shares = (torch.from_numpy(part)[None].to(self.device) for part in (wish.noise, wish.shares))
        drawn = self.generator(noise, shares)[0]
        return np.asarray(((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy())


def slerp(first: NDArray[Any], last: NDArray[Any], share: float) -> NDArray[Any]:
    """Along the great circle between two vectors (Shoemake 1985), its length in a straight line; noise of
    many dimensions keeps the length it was trained with."""
    lengths = np.linalg.norm(first), np.linalg.norm(last)
    cosine = float(np.clip(first @ last / max(lengths[0] * lengths[1], 1e-12), -1, 1))
    angle = math.acos(cosine)
    if math.sin(angle) < 1e-6:
        return np.asarray((1 - share) * first + share * last, np.float32)
    a, b = math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
    length = (1 - share) * lengths[0] + share * lengths[1]
    return np.asarray(length * (a * first / lengths[0] + b * last / lengths[1]), np.float32)
