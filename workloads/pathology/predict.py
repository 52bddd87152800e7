"""Pictures to answers: the only inference code of this workload."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from penstock.media import IMAGE, decode_image
from penstock.workload import Model, Refusal
from workloads.pathology.config import Config, positive
from workloads.pathology.data import patch
from workloads.pathology.messages import PathologyAnswer, PathologyRequest, TileMap
from workloads.pathology.model import build

BATCH = 32  # patches seen at once, so that a large picture needs no more memory than a small one
MOST_TILES = 400  # above it tiles stand side by side, below they overlap by half
FILE_PIXELS = 80_000_000  # of a file too large for the endpoint, which can only have come from a disk
SHOWN = 1024  # pixels, longest side of a heat map
GREEN = np.array([0.0, 170.0, 60.0])  # tissue is anything but green


@dataclass
class View:
    """A decoded picture cut into what the network sees."""

    picture: Image.Image  # at most SHOWN pixels wide and high
    tile: int
    left: list[int]
    top: list[int]
    patches: np.ndarray[Any, Any]  # uint8 [rows x columns, 3, S, S]

    @property
    def tiled(self) -> bool:
        return len(self.patches) > 1


class PathologyPredictor:
    """A loaded classifier, answering a batch at a time."""

    def __init__(self, model: Model[Config], device: str) -> None:
        self.size = model.config.data.size
        self.labels = model.schema.labels
        self.side = int(model.schema.fields.get("patch", self.size))
        self.positive = positive(model.config, model.schema)
        self.device = device
        self.module = build(model.config, model.schema)
        self.module.load_state_dict(dict(model.weights))
        self.module.to(device).eval().requires_grad_(False)

    def predict(self, requests: Sequence[PathologyRequest]) -> list[PathologyAnswer | Refusal]:
        views = [self.view(request.image) for request in requests]
        single = [view.patches for view in views if isinstance(view, View) and not view.tiled]
        seen = iter(self.probabilities(np.concatenate(single)) if single else ())
        answers: list[PathologyAnswer | Refusal] = []
        for request, view in zip(requests, views, strict=True):
            if isinstance(view, Refusal):
                answers.append(view)
            elif view.tiled:
                answers.append(self.answer_tiled(view, request.heatmap))
            else:
                answers.append(self.answer_patch(view, next(seen), request.heatmap))
        return answers

    def view(self, raw: bytes) -> View | Refusal:
        try:
            picture = decode_image(raw, FILE_PIXELS) if len(raw) > IMAGE.limit else decode_image(raw)
        except ValueError as error:
            return Refusal(str(error), "/image")
        shown = picture.copy()
        shown.thumbnail((SHOWN, SHOWN))
        if max(picture.size) < 2 * self.side:
            return View(shown, self.side, [0], [0], patch(picture, self.size)[None])
        left, top = places(*picture.size, self.side)
        wide, high = (min(self.side, length) for length in picture.size)
        boxes = [(x, y, x + wide, y + high) for y in top for x in left]
        return View(shown, self.side, left, top, np.stack([patch(picture.crop(b), self.size) for b in boxes]))

    @torch.inference_mode()
    def probabilities(self, patches: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """float64 [patches, labels]"""
        parts = [self.pixels(patches[k : k + BATCH]) for k in range(0, len(patches), BATCH)]
        return np.concatenate([self.module(part).double().softmax(1).cpu().numpy() for part in parts])

    def pixels(self, patches: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(patches).to(self.device).float() / 255

    def answer_patch(self, view: View, scores: np.ndarray[Any, Any], heatmap: bool) -> PathologyAnswer:
        answer = self.answer(scores)
        if heatmap:
            answer.heatmap = paint(view.picture, self.evidence(view.patches, int(scores.argmax())))
        return answer

    def answer_tiled(self, view: View, heatmap: bool) -> PathologyAnswer:
        scores = self.probabilities(view.patches)
        answer = self.answer(scores.mean(0))
        label = self.positive if len(self.labels) == 2 else answer.label
        shares = scores[:, self.labels.index(label)].reshape(len(view.top), len(view.left))
        answer.map = TileMap(
            label=label, tile=view.tile, left=view.left, top=view.top, scores=shares.tolist()
        )
        if heatmap:
            answer.heatmap = paint(view.picture, shares)
        return answer

    def answer(self, scores: np.ndarray[Any, Any]) -> PathologyAnswer:
        return PathologyAnswer(
            label=self.labels[int(scores.argmax())],
            probabilities=dict(zip(self.labels, scores.tolist(), strict=True)),
        )

    def evidence(self, patches: np.ndarray[Any, Any], label: int) -> np.ndarray[Any, Any]:
        """Grad-CAM of one patch [s, s] in 0..1: where the last cells raise the score of a label."""
        with torch.enable_grad():
            cells = self.module.features(self.module.normalised(self.pixels(patches))).requires_grad_()
            (slope,) = torch.autograd.grad(self.module.head(cells)[:, label].sum(), cells)
        weight = (slope.mean((2, 3), keepdim=True) * cells.detach()).sum(1)[0].clamp_min(0)
        return np.asarray((weight / weight.max().clamp_min(1e-12)).cpu())


def places(width: int, height: int, side: int) -> tuple[list[int], list[int]]:
    """Left and upper edges of tiles of `side` pixels that cover a picture to its borders."""
    for step in (side / 2, side):
        counts = [1 + math.ceil(max(0, length - side) / step) for length in (width, height)]
        if counts[0] * counts[1] <= MOST_TILES:
            break
    left, top = (
        np.linspace(0, max(0, length - side), count).round().astype(int).tolist()
        for length, count in zip((width, height), counts, strict=True)
    )
    return left, top


def paint(picture: Image.Image, shares: np.ndarray[Any, Any]) -> bytes:
    """PNG of the picture with shares [rows, columns] in 0..1 laid over it in green."""
    grid = torch.from_numpy(np.float32(shares))[None, None]
    cover = F.interpolate(grid, picture.size[::-1], mode="bilinear")[0, 0].numpy()[..., None] * 0.6
    pixels = np.asarray(picture, np.float32) * (1 - cover) + GREEN * cover
    file = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
