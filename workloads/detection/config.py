"""Every setting of the detection workload, with the values of the real run as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.config import Optim, Train
from penstock.errors import ConfigError


@dataclass(frozen=True)
class Data:
    """What the prepared pictures look like; a data set depends on nothing else."""

    width: int = 640  # pixels of the canvas that every picture is fitted into, a multiple of 32
    height: int = 384
    validation: float = 0.1  # share of the training pictures that shows how a run is doing
    pictures: int = 800  # how many the synthetic source draws

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if value % 32 or not 64 <= value <= 2048:
                raise ConfigError(f"data.{name} = {value}: a multiple of 32 from 64 to 2048 is needed")


Kind = Literal[
    "compact",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssdlite320_mobilenet_v3_large",
    "fcos_resnet50_fpn",
]


@dataclass(frozen=True)
class Net:
    """Which network looks at a picture."""

    kind: Kind = "compact"
    weights: Literal["", "DEFAULT"] = ""  # DEFAULT: torchvision's COCO weights (not for compact)
    width: int = 24  # channels where compact's stages begin
    rois: int = 64  # regions a picture that Faster R-CNN's second stage learns from
    proposals: int = 200  # regions a picture that its first stage hands over

    def __post_init__(self) -> None:
        if self.weights and self.kind == "compact":
            raise ConfigError(f"model.weights = {self.weights!r}: compact has none; torchvision's kinds do")
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"model.width = {self.width}: a multiple of 8 is needed")


@dataclass(frozen=True)
class Augment:
    """How far a training picture may be bent; 0 switches a part off."""

    width: int = 224  # pixels of a training picture, a window of the canvas; 0 = all of it
    height: int = 192
    aim: float = 0.8  # chance that a window is laid around an object
    shrink: float = 0.5  # a picture becomes smaller by up to e**shrink,
    grow: float = 0.7  # or larger by up to e**grow
    aspect: float = 0.15  # and wider or higher by up to e**aspect
    flip: float = 0.5  # chance of left-right
    mosaic: float = 0.5  # chance that a picture is put together from four
    hue: float = 0.6  # radians that colours turn, either way
    saturation: float = 0.7  # share of the change, either way, as are the next three
    brightness: float = 0.4
    contrast: float = 0.4
    light: float = 0.1  # of each colour by itself

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if value % 32 or value < 0:
                raise ConfigError(
                    f"augment.{name} = {value}: a multiple of 32 is needed, or 0 for the canvas"
                )


@dataclass(frozen=True)
class Config:
    """All of it."""

    data: Data = field(default_factory=Data)
    model: Net = field(default_factory=Net)
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(
        default_factory=lambda: Optim(lr=2e-3, weight_decay=0.05, warmup_steps=100, clip=0.5)
    )
    # "last": a small validation split is a noisy judge of single epochs
    train: Train = field(
        default_factory=lambda: Train(
            epochs=170, batch=8, ema=0.998, checkpoint_every=100, validate_every=17, publish="last"
        )
    )
