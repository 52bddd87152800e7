"""Every setting of the pathology workload, with the values of the real run as defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from penstock.config import Optim, Train
from penstock.errors import ConfigError, nearest
from penstock.workload import Schema


@dataclass(frozen=True)
class Data:
    """What the prepared patches look like; a data set depends on nothing else."""

    size: int = 128  # pixels; every patch is scaled to size x size
    validation: float = 0.2  # share of the training patches that chooses the published weights
    unit: str = ""  # regular expression over file names; its first group is the slide or patient
    pictures: int = 600  # how many the synthetic source draws

    def __post_init__(self) -> None:
        if not 32 <= self.size <= 512:
            raise ConfigError(f"data.size = {self.size}: 32 to 512 pixels are possible")
        try:
            groups = re.compile(self.unit).groups
        except re.error as error:
            raise ConfigError(f"data.unit = {self.unit!r}: not a regular expression: {error}") from None
        if self.unit and not groups:
            raise ConfigError(f"data.unit = {self.unit!r}: put the slide or patient in (parentheses)")


@dataclass(frozen=True)
class Net:
    """Which network looks at a patch."""

    kind: Literal["deep", "cnn", "resnet18", "resnet34", "resnet50", "vgg16"] = "deep"
    weights: Literal["", "DEFAULT"] = ""  # DEFAULT: torchvision's ImageNet weights (resnet and vgg16)
    width: int = 24  # channels of the first stage (deep and cnn)
    dropout: float = 0.2  # before the last layer (deep, cnn and vgg16)

    def __post_init__(self) -> None:
        if self.weights and self.kind in ("deep", "cnn"):
            raise ConfigError(f"model.weights = {self.weights!r}: {self.kind} has none; resnet… and vgg16 do")
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"model.width = {self.width}: a multiple of 8 is needed")


@dataclass(frozen=True)
class Augment:
    """How far a training patch may be bent; 0 switches a part off."""

    rotation: float = 20.0  # degrees, either way
    shift: float = 0.2  # share of the side, either way, both axes
    zoom: float = 0.15  # share of the scale, either way
    flips: bool = True  # left-right and up-down, half of the patches each
    turns: bool = True  # by 0, 90, 180 or 270 degrees: tissue has no up
    stain: float = 0.8  # share by which the amounts of haematoxylin, eosin and the rest change, each
    colour: float = 0.15  # change of each colour channel's optical density
    smoothing: float = 0.05  # of the labels, in the loss


@dataclass(frozen=True)
class Config:
    """All of it."""

    data: Data = field(default_factory=Data)
    model: Net = field(default_factory=Net)
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=lambda: Optim(lr=1e-3, weight_decay=0.05, warmup_steps=40))
    # "last": a small validation split is soon answered perfectly, and "best" would be the first to do so
    train: Train = field(default_factory=lambda: Train(epochs=60, batch=32, ema=0.99, publish="last"))
    positive: str = ""  # the label to find, of two; "" = the first that is not named like normal tissue


NORMAL = re.compile(r"(normal|non|not|no|healthy|benign|negative|control|0)([ _.-].*)?", re.IGNORECASE)
"""Labels that stand for the absence of what is looked for."""


def positive(config: Config, schema: Schema) -> str:
    """The label that sensitivity is about: `config.positive`, or the first not named like normal tissue."""
    if config.positive and config.positive not in schema.labels:
        raise ConfigError(
            f"positive = {config.positive!r}: no such label{nearest(config.positive, schema.labels)}"
        )
    found = [label for label in schema.labels if not NORMAL.fullmatch(label)]
    return config.positive or (found or list(schema.labels))[0]
