"""Every setting of the GAN workload, with the values of the real run as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.config import Optim, Train
from penstock.errors import ConfigError

SIDES = tuple(sorted(first << doublings for first in (5, 6, 7, 8) for doublings in (2, 3, 4)))
"""Sizes that doubling can reach: 28 = 7 x 4, 64 = 8 x 8, 128 = 8 x 16."""
SIZES = tuple(side for side in SIDES if 28 <= side <= 128)
DCGAN_SIZE = 28


@dataclass(frozen=True)
class Data:
    """What the prepared pictures look like; a data set depends on nothing else."""

    size: int = 28  # pixels; every picture is cropped to a square and scaled to size x size
    validation: float = 0.05  # share of the training pictures that chooses the published weights
    pictures: int = 6000  # how many the synthetic source draws

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ConfigError(f"data.size = {self.size}: one of {', '.join(map(str, SIZES))} is needed")


@dataclass(frozen=True)
class Net:
    """The two networks and what each tries to do."""

    kind: Literal["scalable", "dcgan"] = "scalable"  # dcgan: 28 pixels, knows no classes
    conditional: bool = True  # scalable: draws the class it is asked for, where the data has classes
    noise: int = 64  # numbers a picture is made from (scalable; dcgan has 100)
    width: int = 24  # channels at full size, doubled at each halving (scalable)
    widest: int = 96  # channels at most (scalable)
    loss: Literal["nonsaturating", "hinge"] = "nonsaturating"
    spectral_norm: bool = False  # of the discriminator's weights (scalable)
    r1: float = 0.5  # weight of the gradient penalty on real pictures; 0 = none
    r1_share: float = 0.25  # of the real pictures that are penalised, each as much more

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8 or self.widest % 8 or self.widest < self.width:
            raise ConfigError(
                f"model.width = {self.width}, model.widest = {self.widest}: multiples of 8 are needed, "
                "the second at least the first"
            )
        if not 1 <= self.noise <= 1024:
            raise ConfigError(f"model.noise = {self.noise}: 1 to 1024 are possible")
        if self.r1 < 0 or not 0 < self.r1_share <= 1:
            raise ConfigError(
                f"model.r1 = {self.r1}, model.r1_share = {self.r1_share}: 0 or more, and above 0 to 1"
            )


@dataclass(frozen=True)
class Augment:
    """How real and generated pictures are bent before the discriminator sees them (DiffAugment); 0 switches
    a part off."""

    translation: float = 0.125  # share of the side, either way, both axes
    cutout: float = 0.5  # side of the square that is blanked, as a share of the picture's
    colour: float = 0.0  # change of brightness, saturation and contrast; 1 is the usual
    flip: bool = False  # mirror half of the real pictures left to right

    def __post_init__(self) -> None:
        for name in ("translation", "cutout", "colour"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"augment.{name} = {value}: 0 to 1 are possible")


@dataclass(frozen=True)
class Config:
    """All of it."""

    data: Data = field(default_factory=Data)
    model: Net = field(default_factory=Net)
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(
        default_factory=lambda: Optim(
            kind="adam", lr=1e-3, weight_decay=0.0, betas=(0.0, 0.99), warmup_steps=50, final_lr=0.1, clip=0.0
        )
    )
    train: Train = field(
        default_factory=lambda: Train(epochs=30, batch=64, ema=0.998, checkpoint_every=200, publish="last")
    )
    style: bool = False  # also measure the style distance; needs torchvision's VGG19 weights

    def __post_init__(self) -> None:
        if self.model.kind == "dcgan" and self.data.size != DCGAN_SIZE:
            raise ConfigError(
                f"data.size = {self.data.size}: model.kind = 'dcgan' makes {DCGAN_SIZE} pixels; "
                "use 'scalable'"
            )
        if self.model.kind == "dcgan" and self.model.r1:
            raise ConfigError(f"model.r1 = {self.model.r1}: not with model.kind = 'dcgan', which has dropout")
