"""A workload for tests of the endpoint: its predictor does on request what a predictor should never do.

`publish(store)` makes a version of it without any training.
"""

from __future__ import annotations

import base64
import io
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from penstock import registry
from penstock.media import ImageBytes, WantsPicture, decode_image
from penstock.registry import Version
from penstock.store import Store
from penstock.workload import Goal, Model, Refusal, Schema, Workload
from tests import toy


def png(side: int = 4, colour: tuple[int, int, int] = (200, 100, 0), kind: str = "PNG") -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, kind)
    return file.getvalue()


class Request(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": base64.b64encode(png()).decode("ascii")}]}
    )
    image: ImageBytes
    gain: float = Field(1.0, ge=0, le=8, description="what the brightness is multiplied by")
    act: Literal["", "raise", "crash", "wait", "echo"] = ""
    inverted: WantsPicture = False
    gate: str = Field("", description="with act=wait: the file whose absence ends the wait")
    note: str | None = None


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"red": 200.0, "batch": 1, "process": 1}]})
    red: float
    batch: int = Field(description="how many requests were answered together")
    process: int
    negative: ImageBytes | None = None


class Predictor:
    def __init__(self, model: Model[toy.Config], device: str) -> None:
        self.scale = float(model.weights["scale"])
        self.delay_s = float(model.weights["delay_s"])
        if self.scale == 0:
            raise ValueError("a scale of zero")
        self.computing = threading.Lock()

    def predict(self, requests: Sequence[Request]) -> Sequence[Answer | Refusal]:
        assert self.computing.acquire(blocking=False), "two batches at a time"
        try:
            return [self.one(request, len(requests)) for request in requests]
        finally:
            self.computing.release()

    def one(self, request: Request, batch: int) -> Answer | Refusal:
        time.sleep(self.delay_s)
        if self.scale < 0:
            return Refusal("nothing will do", "/image")
        try:
            picture = decode_image(request.image)
        except ValueError as error:
            return Refusal(str(error), "/image")
        if request.act == "raise":
            raise RuntimeError("secret: /etc/penstock, token hunter2")
        if request.act == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if request.act == "echo":
            return Refusal(f"this will not do: {request.note}", "/note")
        while request.act == "wait" and Path(request.gate).exists():
            time.sleep(0.01)
        red = float(picture.resize((1, 1)).getpixel((0, 0))[0])  # type: ignore[index]
        negative = png(colour=(255 - int(red), 0, 0)) if request.inverted else None
        return Answer(
            red=red * self.scale * request.gain, batch=batch, process=os.getpid(), negative=negative
        )


workload: Workload[toy.Config] = Workload(
    name="probe",
    config=toy.Config,
    sources={"synthetic": "tests.toy:Synthetic"},
    decode="tests.toy:decode",
    trainers={"supervised": "tests.toy:Task"},
    predictor="tests.probe:Predictor",
    evaluator="tests.toy:Evaluator",
    request=Request,
    answer=Answer,
    goal=Goal("accuracy", "max"),
    space={},
    presets={"smoke": toy.SMOKE, "default": toy.Config(), "gpu": toy.Config()},
    summary="how red a picture is",
)


def publish(
    store: Store,
    name: str = "probe",
    scale: float = 1.0,
    delay_s: float = 0.0,
    right: int | None = None,
    **more: Any,
) -> Version:
    """The next version of a probe. `scale`: 0 = it does not load, negative = it refuses everything;
    `delay_s`: what it sleeps for each request; `right`: of 200 test items, None = judged on other ones."""
    items = [f"{i:03d}" for i in range(200)] if right is not None else [f"{scale}"]
    said = ["left"] * (right or 0) + ["right"] * (len(items) - (right or 0))
    return registry.publish(
        store,
        name,
        workload,
        toy.Config(),
        Schema(("left", "right")),
        {"scale": torch.tensor(scale), "delay_s": torch.tensor(delay_s)},
        metrics={"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}},
        records=pa.table(
            {
                "item": items,
                "unit": items,
                "truth": ["left"] * len(items),
                "said": said,
                "score": [1.0] * len(items),
            }
        ),
        dataset_card={
            "id": "0" * 16,
            "source": {"format": "synthetic", "name": ""},
            "licence": "CC0-1.0",
            "counts": {"train": 1, "validation": 1, "test": len(items)},
            "shards": {
                "test-0.arrow": {"split": "test", "sha256": "00" if right is not None else f"{scale}"}
            },
        },
        run="by-hand",
        seed=0,
        **more,
    )
