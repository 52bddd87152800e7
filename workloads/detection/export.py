"""Detectors as graphs: our own up to its cells, torchvision's up to the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from penstock.graphs import Export, Graph
from workloads.detection import compact, torchvision_build
from workloads.detection.compact import Compact
from workloads.detection.data import GREY
from workloads.detection.predict import DetectionPredictor
from workloads.detection.torchvision_nets import Torchvision


class Found(nn.Module):
    """One picture [1, 3, H, W] -> what a torchvision detector finds: boxes [k, 4], scores [k], labels [k]."""

    def __init__(self, detector: Torchvision) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inner = self.detector.inner
        found = inner.model([picture[0]])[0]
        return found["boxes"], found["scores"], found["labels"] - inner.background


class OneByOne:
    """Who asks it, in the shape of any detector."""

    def __init__(self, found: Found) -> None:
        self.found = found

    def detect(self, images: Tensor) -> Sequence[tuple[Tensor, Tensor, Tensor]]:
        with torch.no_grad():
            return [self.found(image[None]) for image in images]


def export(predictor: DetectionPredictor) -> Export:
    """Every detector can leave: our own without what takes double boxes out, torchvision's with it."""
    data, labels, module = predictor.data, list(predictor.labels), predictor.module
    size = (3, data.height, data.width)
    after: dict[str, Any]
    if isinstance(module, Compact):
        graph = Graph(
            module,
            inputs={"pixels": ("batch", *size)},
            outputs={"scores": ("batch", "cells", len(labels)), "boxes": ("batch", "cells", 4)},
        )
        after = {
            "steps": [
                "sigmoid of the scores; a candidate is a cell with a label: the best `candidates` above "
                "`least`",
                "clip boxes (left, top, right, bottom in pixels of the canvas) to the canvas",
                "label by label, drop a box that overlaps a surer one by an IoU above `overlap`; keep `most`",
            ],
            "candidates": compact.CANDIDATES,
            "least": compact.LEAST,
            "overlap": compact.OVERLAP,
            "most": compact.MOST,
        }
    else:
        found = Found(module)
        predictor.module = cast(Torchvision, OneByOne(found))
        graph = Graph(
            found,
            inputs={"pixels": (1, *size)},
            outputs={"boxes": ("found", 4), "scores": ("found",), "labels": ("found",)},
            recorded=True,
        )
        after = {
            "steps": [
                "boxes (left, top, right, bottom in pixels of the canvas) come by falling score, without "
                "double ones; `labels` count from 0"
            ],
            "least": torchvision_build.LEAST,
            "most": torchvision_build.MOST,
        }
    after["steps"] += [
        "divide boxes by the scale of the letterbox (width and height each), clip them to the picture, drop "
        "empty ones",
        "drop scores below the request's min_score and keep its max_boxes",
    ]
    return Export(
        {"model": graph},
        preprocessing={
            "steps": [
                "decode the picture as RGB, turned as its EXIF orientation says",
                "letterbox: scale it (Pillow's BILINEAR), aspect kept, to fit width x height; it lies at the "
                "upper left, the rest is `grey`",
                "channels first, divided by 255; normalisation is in the graph",
            ],
            "width": data.width,
            "height": data.height,
            "grey": GREY,
            "colours": "RGB",
            "range": [0.0, 1.0],
        },
        postprocessing={**after, "labels": labels},
    )
