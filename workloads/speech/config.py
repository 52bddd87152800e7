"""Every setting of the speech workload, with the values of the real run as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.config import Optim, Train
from penstock.errors import ConfigError


@dataclass(frozen=True)
class Data:
    """What the prepared clips look like; a data set depends on nothing else."""

    rate: int = 8_000  # Hz; every clip is resampled to it
    seconds: float = 1.0  # of a training clip: shorter ones are padded, longer ones cropped
    validation: float = 0.2  # share of the training clips that chooses the published weights
    leave_out: str = ""  # a speaker whose clips become the test split; nobody else's do
    actions: str = ""  # TOML file, label = "action"; "" = actions.toml beside the label folders, if any
    clips: int = 600  # how many the synthetic source makes

    def __post_init__(self) -> None:
        if not 8_000 <= self.rate <= 48_000:
            raise ConfigError(f"data.rate = {self.rate}: 8000 to 48000 Hz are possible")
        if not 0.1 <= self.seconds <= 10:
            raise ConfigError(f"data.seconds = {self.seconds}: 0.1 to 10 are possible")

    @property
    def samples(self) -> int:
        """Samples in a clip."""
        return round(self.rate * self.seconds)


@dataclass(frozen=True)
class Net:
    """Which network listens, and to what."""

    kind: Literal["cnn", "crnn", "transformer"] = "cnn"
    features: Literal["logmel", "mfcc"] = "logmel"
    coefficients: int = 20  # of the MFCC, 13 and up
    mels: int = 40  # bands of the log-mel spectrogram, also beneath the MFCC
    width: int = 16  # channels of the first stage, doubled at each further one
    dropout: float = 0.3  # before the last layer

    def __post_init__(self) -> None:
        if not 13 <= self.coefficients <= self.mels:
            raise ConfigError(
                f"model.coefficients = {self.coefficients}: 13 to model.mels ({self.mels}) are possible"
            )
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"model.width = {self.width}: a multiple of 8 is needed")


@dataclass(frozen=True)
class Augment:
    """How far a training clip may be bent; 0 switches a part off."""

    shift: float = 0.1  # seconds, either way
    noise: float = 0.5  # share of clips that get noise
    quietest: float = 30.0  # dB of speech over noise, at most
    loudest: float = 5.0  # dB of speech over noise, at least
    tempo: float = 0.1  # share by which a word is stretched or squeezed in time
    voice: float = 0.06  # share of the mel axis by which it is moved and scaled: another vocal tract
    time_mask: float = 0.1  # widest blanked share of the frames (SpecAugment)
    mel_mask: float = 0.1  # widest blanked share of the mel bands (SpecAugment)
    smoothing: float = 0.1  # of the labels, in the loss


@dataclass(frozen=True)
class Config:
    """All of it."""

    data: Data = field(default_factory=Data)
    model: Net = field(default_factory=Net)
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=lambda: Optim(lr=4e-3, weight_decay=0.02, warmup_steps=40))
    # A few hundred clips are all recognised long before the schedule ends, and among equals the first would
    # be published: the averaged weights at the end are better.
    train: Train = field(default_factory=lambda: Train(epochs=40, batch=32, ema=0.99, publish="last"))
