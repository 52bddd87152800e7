"""A tiny workload for the platform's own tests: a bright bar in 8 x 8 noisy pixels leans left or right.

`workload` is a classifier, `pair` a generator with its discriminator (two objectives).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor, nn

from penstock.config import Optim, Train
from penstock.data.order import key
from penstock.graphs import Export, Graph
from penstock.nn import Dropout
from penstock.workload import (
    Batch,
    Choice,
    Fault,
    Goal,
    Item,
    Model,
    Objective,
    Refusal,
    Row,
    Scan,
    Schema,
    Span,
    Workload,
)

SIZE = 8


@dataclass(frozen=True)
class Data:
    items: int = 200
    noise: float = 0.6  # 0: anything tells the classes apart; 2: nothing does
    bad: int = 0  # items that are cut short
    labels: tuple[str, ...] = ("left", "right")
    validation: float = 0.2


@dataclass(frozen=True)
class Net:
    width: int = 8
    dropout: float = 0.0
    augment: bool = True


@dataclass(frozen=True)
class Config:
    data: Data = field(default_factory=Data)
    model: Net = field(default_factory=Net)
    optim: Optim = field(default_factory=lambda: Optim(lr=1e-2, schedule="constant"))
    train: Train = field(default_factory=lambda: Train(epochs=2, batch=16, checkpoint_every=5))


def picture(index: int, label: int, noise: float) -> bytes:
    """64 grey pixels, drawn from the item's number alone."""
    draw = np.random.Generator(np.random.Philox(key=key("toy", index)))
    bar = np.eye(SIZE) if label % 2 == 0 else np.eye(SIZE)[::-1]
    pixels = np.roll(bar, label // 2, axis=1) * 120 + 60 + draw.normal(0, 60 * noise, (SIZE, SIZE))
    return pixels.clip(0, 255).astype(np.uint8).tobytes()


class Synthetic:
    """Pictures made on demand; nothing is read."""

    def scan(self, path: str, config: Data) -> Scan:
        labels = config.labels
        items = [Item(f"{i:05d}", where={"index": i, "label": i % len(labels)}) for i in range(config.items)]
        return Scan(items, Schema(labels, {"size": SIZE}), licence="CC0-1.0")

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item in items:
            index, label = item.where["index"], item.where["label"]
            pixels = picture(index, label, config.noise)
            yield {"pixels": pixels[: 7 if index < config.bad else None], "label": label}


def decode(row: Row, config: Data, schema: Schema) -> Row:
    return {"pixels": to_array(row["pixels"]), "label": int(row["label"])}


def to_array(pixels: Sequence[int]) -> np.ndarray[Any, Any]:
    """uint8 [1, 8, 8]"""
    if len(pixels) != SIZE * SIZE:
        raise ValueError(f"{len(pixels)} pixels; {SIZE * SIZE} are needed")
    return np.array(list(pixels), np.uint8).reshape(1, SIZE, SIZE)


def scale(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1.0


class Classifier(nn.Module):
    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        width = config.model.width
        self.conv = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(2, width)
        self.dropout = Dropout(config.model.dropout)
        self.head = nn.Linear(width * 16, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = F.max_pool2d(F.relu(self.norm(self.conv(pixels))), 2)
        return self.head(self.dropout(hidden.flatten(1)))  # type: ignore[no-any-return]


@dataclass
class Points:
    pixels: Tensor  # float [n, 1, 8, 8]
    label: Tensor  # int64 [n]
    noise: Tensor  # float [n, 4], for the generator


class Task:
    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.module: nn.Module = Classifier(config, len(schema.labels))

    def collate(self, items: Batch) -> Points:
        pixels = np.zeros((len(items), 1, SIZE, SIZE), np.uint8)
        noise = np.zeros((len(items), 4), np.float32)
        label = np.zeros(len(items), np.int64)
        for i, (row, draw) in enumerate(items):
            shift = int(draw.integers(-1, 2)) if self.config.model.augment else 0
            pixels[i] = np.roll(row["pixels"], shift, axis=1)
            noise[i] = draw.standard_normal(4)
            label[i] = row["label"]
        return Points(scale(torch.from_numpy(pixels)), torch.from_numpy(label), torch.from_numpy(noise))

    def objectives(self) -> Sequence[Objective[Points]]:
        return [Objective("classify", list(self.module.parameters()), self.loss)]

    def loss(self, batch: Points) -> tuple[Tensor, float]:
        loss = F.cross_entropy(self.module(batch.pixels), batch.label, reduction="sum")
        return loss, float(len(batch.label))


class Pair(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.model.width
        self.g = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, SIZE * SIZE), nn.Tanh())
        self.d = nn.Sequential(
            nn.Linear(SIZE * SIZE, width),
            nn.LeakyReLU(0.2),
            Dropout(config.model.dropout),
            nn.Linear(width, 1),
        )


class PairTask(Task):
    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.module = Pair(config)

    def objectives(self) -> Sequence[Objective[Points]]:
        g, d = self.module.g, self.module.d
        assert isinstance(g, nn.Module) and isinstance(d, nn.Module)
        return [
            Objective("discriminator", list(d.parameters()), self.tell_apart),
            Objective("generator", list(g.parameters()), self.fool),
        ]

    def tell_apart(self, batch: Points) -> tuple[Tensor, float]:
        real = self.module.d(batch.pixels.flatten(1))
        fake = self.module.d(self.module.g(batch.noise))
        return F.softplus(-real).sum() + F.softplus(fake).sum(), float(len(batch.label))

    def fool(self, batch: Points) -> tuple[Tensor, float]:
        fake = self.module.d(self.module.g(batch.noise))
        return F.softplus(-fake).sum(), float(len(batch.label))


class Request(BaseModel):
    pixels: list[int]
    model_config = {"json_schema_extra": {"examples": [{"pixels": list(picture(0, 0, 0.0))}]}}


class Answer(BaseModel):
    label: str
    score: float
    model_config = {"json_schema_extra": {"examples": [{"label": "left", "score": 0.9}]}}


class Predictor:
    def __init__(self, model: Model[Config], device: str) -> None:
        self.labels, self.device = model.schema.labels, device
        self.module = Classifier(model.config, len(self.labels))
        self.module.load_state_dict(dict(model.weights))
        self.module.to(device).eval()

    def predict(self, requests: Sequence[Request]) -> Sequence[Answer | Refusal]:
        good: dict[int, np.ndarray[Any, Any]] = {}
        for i, request in enumerate(requests):
            if len(request.pixels) == SIZE * SIZE and all(0 <= value < 256 for value in request.pixels):
                good[i] = to_array(request.pixels)
        scores: Iterable[Tensor] = ()
        if good:
            with torch.inference_mode():
                pixels = scale(torch.from_numpy(np.stack(list(good.values())))).to(self.device)
                scores = self.module(pixels).softmax(1).cpu()
        found = dict(zip(good, scores, strict=True))
        return [
            self._answer(found[i]) if i in found else Refusal("64 pixels of 0 to 255 are needed", "/pixels")
            for i in range(len(requests))
        ]

    def _answer(self, scores: Tensor) -> Answer:
        best = int(scores.argmax())
        return Answer(label=self.labels[best], score=float(scores[best]))


def export(predictor: Predictor) -> Export:
    graph = Graph(
        predictor.module,
        {"pixels": ("batch", 1, SIZE, SIZE)},
        {"scores": ("batch", len(predictor.labels))},
    )
    return Export(
        {"model": graph},
        {"steps": ["pixels / 127.5 - 1"]},
        {"steps": ["softmax"], "labels": list(predictor.labels)},
    )


class PairPredictor(Predictor):
    """How real a picture looks to the discriminator."""

    def __init__(self, model: Model[Config], device: str) -> None:
        self.labels, self.device = ("fake", "real"), device
        pair = Pair(model.config)
        pair.load_state_dict(dict(model.weights))
        head = nn.Sequential(nn.Flatten(), pair.d, Realness())
        self.module = head.to(device).eval()  # type: ignore[assignment]


class Realness(nn.Module):
    def forward(self, logit: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(logit), logit], 1)


class Evaluator:
    def __init__(self, config: Config, schema: Schema) -> None:
        self.labels = schema.labels

    def requests(self, rows: Sequence[Row]) -> list[Request]:
        return [Request(pixels=list(row["pixels"])) for row in rows]

    def records(self, rows: Sequence[Row], answers: Sequence[Answer | Refusal]) -> pa.Table:
        said = ["" if isinstance(answer, Refusal) else answer.label for answer in answers]
        scores = [0.0 if isinstance(answer, Refusal) else answer.score for answer in answers]
        truth = [self.labels[row["label"]] for row in rows]
        types = {"truth": pa.string(), "said": pa.string(), "score": pa.float64()}
        values = {"truth": truth, "said": said, "score": scores}
        return pa.table({name: pa.array(values[name], kind) for name, kind in types.items()})

    def summarise(self, records: pa.Table) -> dict[str, float]:
        if not records.num_rows:
            return {"accuracy": float("nan"), "score": float("nan")}
        right = np.array(records["truth"].to_pylist()) == np.array(records["said"].to_pylist())
        return {"accuracy": float(right.mean()), "score": float(np.mean(records["score"].to_numpy()))}


SMOKE = Config(train=Train(epochs=3, batch=16, checkpoint_every=5))

workload: Workload[Config] = Workload(
    name="toy",
    config=Config,
    sources={"synthetic": "tests.toy:Synthetic"},
    decode="tests.toy:decode",
    trainers={"supervised": "tests.toy:Task"},
    predictor="tests.toy:Predictor",
    evaluator="tests.toy:Evaluator",
    request=Request,
    answer=Answer,
    exporter="tests.toy:export",
    goal=Goal("accuracy", "max"),
    space={"optim.lr": Span(1e-4, 1e-1, log=True), "model.width": Choice((4, 8, 16))},
    presets={"smoke": SMOKE, "default": Config(), "gpu": Config()},
    summary="which way a bar of pixels leans",
)

pair: Workload[Config] = dataclasses.replace(
    workload,
    name="toy-pair",
    trainers={"supervised": "tests.toy:PairTask"},
    predictor="tests.toy:PairPredictor",
    exporter=None,
    goal=Goal("score", "max"),
    summary="a generator of leaning bars and its discriminator",
)


def example() -> dict[str, Any]:
    """A request as JSON."""
    return json.loads(Request(pixels=list(picture(0, 0, 0.0))).model_dump_json())  # type: ignore[no-any-return]
