"""Every setting of the recsys workload, with the values of the real run as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.config import Optim, Train
from penstock.errors import ConfigError

MOST_ITEMS = 5_000  # of what holds a number for each pair of items
Kind = Literal["neighbours", "dense", "factors", "sasrec", "itemknn", "bias", "popularity"]


@dataclass(frozen=True)
class Data:
    """Which columns are read, and which ratings are held out; a data set depends on nothing else."""

    user: str = ""  # column of the users; "" = found by its usual names
    item: str = ""  # column of the items
    rating: str = ""  # column of the ratings; where there is none, every row is a watch
    timestamp: str = ""  # column of the times, Unix seconds
    split: Literal["auto", "random", "last", "user"] = "auto"  # auto: as the files say, else random
    test: float = 0.1  # share of the ratings (random) or of the users (user) that are held out
    validation: float = 0.05  # share of the remaining ratings that chooses the published weights
    rank: int = 32  # numbers in the vector of an item that is learned from who watched what
    users: int = 600  # of the synthetic source
    items: int = 300
    ratings: int = 18_000

    def __post_init__(self) -> None:
        for name in ("test", "validation"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"data.{name} = {getattr(self, name)}: above 0 and below 1 is needed")
        if not 1 <= self.rank <= 512:
            raise ConfigError(f"data.rank = {self.rank}: 1 to 512 are possible")


@dataclass(frozen=True)
class Net:
    """Which model, and its size."""

    kind: Kind = "neighbours"
    heads: int = 8  # neighbours: ways in which rated items are near a wanted one; sasrec: attention heads
    hidden: int = 32  # neighbours: units that correct the prediction
    width: int = 64  # numbers in an embedding (dense, factors, sasrec)
    layers: int = 2  # sasrec
    dropout: float = 0.3  # sasrec
    history: int = (
        100  # ratings of a user that are looked at, at most: the newest, in training a random choice
    )
    target: Literal["held_out", "next"] = "held_out"  # sasrec: learns any watch from the others, or the next
    held_out: float = 0.3  # mean share of a history that is asked for (sasrec, held_out)
    ridge: float = 300.0  # sasrec, held_out: of the linear memory in its scores (EASE); 0 = no memory
    negatives: int = 0  # items drawn for a sampled softmax; 0 = all items

    def __post_init__(self) -> None:
        if self.width % 8 or not 8 <= self.width <= 1024:
            raise ConfigError(f"model.width = {self.width}: a multiple of 8 up to 1024 is needed")
        if not 1 <= self.heads <= 32 or (self.kind == "sasrec" and self.width % self.heads):
            raise ConfigError(f"model.heads = {self.heads}: 1 to 32, and for sasrec a divisor of model.width")
        if not 2 <= self.history <= 2048:
            raise ConfigError(f"model.history = {self.history}: 2 to 2048 are possible")
        for name, low, high in (("layers", 1, 64), ("hidden", 1, 4096), ("negatives", 0, 100_000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"model.{name} = {getattr(self, name)}: {low} to {high} are possible")
        if not 0 <= self.ridge <= 1e6:
            raise ConfigError(f"model.ridge = {self.ridge}: 0 to 1,000,000 are possible")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout = {self.dropout}: 0 to below 1 is possible")
        if not 0 < self.held_out <= 0.5:
            raise ConfigError(f"model.held_out = {self.held_out}: above 0 to 0.5 are possible")

    def remembers(self, items: int) -> bool:
        """Whether SASRec has a memory, which holds a number for each pair of items."""
        return self.ridge > 0 and self.target == "held_out" and items <= MOST_ITEMS


@dataclass(frozen=True)
class Config:
    """All of it."""

    data: Data = field(default_factory=Data)
    model: Net = field(default_factory=Net)
    optim: Optim = field(default_factory=lambda: Optim(lr=5e-3, weight_decay=0.01, warmup_steps=30))
    train: Train = field(default_factory=lambda: Train(epochs=12, batch=64, checkpoint_every=100))
