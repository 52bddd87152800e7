"""Pictures to answers: the only inference code of this workload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from PIL import Image

from penstock.media import IMAGE, decode_image
from penstock.nn import one_thread
from penstock.workload import Model, Refusal
from workloads.detection.config import Config
from workloads.detection.data import letterbox
from workloads.detection.draw import Drawn, png, with_boxes
from workloads.detection.messages import Box, DetectionAnswer, DetectionRequest
from workloads.detection.model import build

FILE_PIXELS = 80_000_000  # of a file too large for the endpoint, which can only have come from a disk
SURE = 0.3  # least score of a box that is drawn: below it a picture disappears under its boxes
SHOWN = 2048  # pixels, longest side of a picture that is sent back


class DetectionPredictor:
    """A loaded detector. It looks at one picture at a time, so that no answer can depend on its company."""

    def __init__(self, model: Model[Config], device: str) -> None:
        self.data = model.config.data
        self.labels = model.schema.labels
        self.device = device
        self.module = build(model.config, model.schema)
        self.module.load_state_dict(dict(model.weights))
        self.module.to(device).eval().requires_grad_(False)

    def predict(self, requests: Sequence[DetectionRequest]) -> list[DetectionAnswer | Refusal]:
        return list(self.frames(requests))

    def frames(self, requests: Iterable[DetectionRequest]) -> Iterator[DetectionAnswer | Refusal]:
        """An answer a picture, each before the next picture is asked for."""
        for request in requests:
            raw = request.image
            try:
                picture = decode_image(raw, FILE_PIXELS) if len(raw) > IMAGE.limit else decode_image(raw)
            except ValueError as error:
                yield Refusal(str(error), "/image")
                continue
            boxes = [box for box in self.boxes(picture) if box.score >= request.min_score]
            boxes = boxes[: request.max_boxes]
            answer = DetectionAnswer(boxes=boxes, width=picture.width, height=picture.height, picture=None)
            if request.picture:
                answer.picture = self.drawn(picture, boxes)
            yield answer

    @torch.inference_mode()
    def boxes(self, picture: Image.Image) -> list[Box]:
        """All boxes the network gives, by falling score, in pixels of the picture."""
        placed = letterbox(picture, self.data.width, self.data.height)
        pixels = torch.from_numpy(placed.pixels)[None].to(self.device).float() / 255
        with one_thread():  # an edge near 0 would differ by more than 1e-5 otherwise
            ((edges, scores, labels),) = self.module.detect(pixels)
        # the canvas may hold more than the picture
        limits = torch.tensor([picture.width, picture.height] * 2, dtype=torch.float64)
        edges = (edges.double().cpu() / torch.from_numpy(placed.scale)).clamp_min(0).minimum(limits)
        found = []
        for box, score, label in zip(edges.tolist(), scores.tolist(), labels.tolist(), strict=True):
            if box[0] < box[2] and box[1] < box[3]:
                found.append(Box(label=self.labels[label], score=score, box=box))
        return found

    def drawn(self, picture: Image.Image, boxes: Sequence[Box]) -> bytes:
        scale = min(1.0, SHOWN / max(picture.size))
        shown = picture.copy()
        shown.thumbnail((SHOWN, SHOWN))
        number = {label: k for k, label in enumerate(self.labels)}
        return png(
            with_boxes(
                shown,
                [
                    Drawn(
                        [edge * scale for edge in box.box], f"{box.label} {box.score:.2f}", number[box.label]
                    )
                    for box in boxes
                    if box.score >= SURE
                ],
            )
        )
