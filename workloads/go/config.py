"""Every setting of the Go workload, with the values of the first run as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.config import Optim, Train
from penstock.errors import ConfigError

Trainer = Literal["zero", "ppo", "records"]


@dataclass(frozen=True)
class Data:
    """The records that are read or generated, and the games a model is judged by."""

    size: int = 5  # of the boards that generated games and the games of evaluation are played on
    komi: float = 0.5  # there
    games: int = 400  # of the synthetic source
    matches: int = 20  # openings of evaluation, each played with both colours against each fixed opponent
    test: float = 0.2  # share of the games that is held out where the source does not say
    validation: float = 0.1  # of the others, that chooses the published weights

    def __post_init__(self) -> None:
        within("data", self, size=(2, 19), komi=(-361, 361), games=(20, 1_000_000), matches=(1, 1000))
        within("data", self, test=(0.01, 0.9), validation=(0.01, 0.9))


@dataclass(frozen=True)
class Net:
    """The size of the network, which plays on boards of every size."""

    width: int = 32  # channels
    blocks: int = 3  # residual blocks

    def __post_init__(self) -> None:
        within("model", self, width=(8, 512), blocks=(1, 64))


@dataclass(frozen=True)
class Play:
    """How a trained model plays where a request does not say."""

    visits: int = 64  # simulations a move
    judged: int = 16  # in the games of evaluation
    considered: int = 16  # moves that the search compares at the root

    def __post_init__(self) -> None:
        within("play", self, visits=(0, 1000), judged=(0, 1000), considered=(1, 362))


@dataclass(frozen=True)
class Records:
    """Learning from recorded games (trainer records)."""

    positions: int = 8  # drawn from each game in each epoch
    value: float = 1.0  # weight of who won, beside the move

    def __post_init__(self) -> None:
        within("records", self, positions=(1, 1000), value=(0, 100))


@dataclass(frozen=True)
class Zero:
    """Learning from nothing by search (trainer zero)."""

    sizes: tuple[int, ...] = (5,)  # boards, in the order they are learned on
    shares: tuple[float, ...] = (1.0,)  # of the run that each size gets
    iterations: int = 100_000  # at most
    minutes: float = 9.0  # of training at most, over all attempts; 0 = only `iterations` count
    boards: int = 128  # games that each env runner plays at once
    plies: int = 8  # moves in each of them in an iteration
    visits: int = 24  # simulations of a move that is learned
    fast: int = 6  # and of the others: they bring games to an end (playout cap randomisation)
    full: float = 0.4  # share of the moves that are learned
    considered: int = 12  # moves that are compared at the root
    opening: int = 6  # random moves at the start of a game, 0 to this many
    spread: float = 3.0  # standard deviation of komi around what the network thinks is fair, points
    capacity: int = 200_000  # positions that are remembered
    reuse: float = 4.0  # how often each is learned from, on average
    learners: int = 0  # remote learners; 0 = learn in the process that drives
    ownership: float = 0.3  # weight in the loss, beside policy and value
    score: float = 0.3
    rate_every: int = 0  # iterations between matches against past selves; 0 = eight in the whole run

    def __post_init__(self) -> None:
        if not self.sizes or len(self.sizes) != len(self.shares) or abs(sum(self.shares) - 1) > 1e-6:
            raise ConfigError(
                f"zero.sizes = {list(self.sizes)}, zero.shares = {list(self.shares)}: "
                "a share for each size is needed, 1 in all"
            )
        for size in self.sizes:
            if not 2 <= size <= 19:
                raise ConfigError(f"zero.sizes = {list(self.sizes)}: boards of 2 to 19 are possible")
        within("zero", self, iterations=(1, 10**9), minutes=(0, 100_000), boards=(1, 8192), plies=(1, 1000))
        within("zero", self, visits=(2, 2000), fast=(2, 2000), full=(0.01, 1), considered=(1, 362))
        within("zero", self, opening=(0, 100), spread=(0, 100), capacity=(1000, 10**8), reuse=(0.1, 100))
        within("zero", self, learners=(0, 64), ownership=(0, 100), score=(0, 100), rate_every=(0, 10**9))


@dataclass(frozen=True)
class Ppo:
    """Learning from nothing by policy gradients, against a pool of past selves (trainer ppo)."""

    iterations: int = 100_000  # at most
    minutes: float = 9.0  # of training at most, over all attempts; 0 = only `iterations` count
    boards: int = 128  # games that each env runner plays at once
    plies: int = 32  # of the agent in each of them in an iteration
    epochs: int = 2  # over what an iteration brought
    gae: float = 0.95  # lambda of the generalised advantage estimate; gamma is 1
    clip: float = 0.2
    entropy: float = 0.01
    pool: int = 4  # past selves among the opponents, beside the random player
    pool_every: int = 5  # iterations between them
    rate_every: int = 0  # iterations between matches against past selves; 0 = eight in the whole run

    def __post_init__(self) -> None:
        within("ppo", self, iterations=(1, 10**9), minutes=(0, 100_000), boards=(1, 8192), plies=(1, 10_000))
        within("ppo", self, epochs=(1, 100), gae=(0, 1), clip=(0.01, 1), entropy=(0, 1), pool=(1, 64))
        within("ppo", self, pool_every=(1, 10**6), rate_every=(0, 10**9))


@dataclass(frozen=True)
class Config:
    """All of it."""

    trainer: Trainer = "zero"
    data: Data = field(default_factory=Data)
    model: Net = field(default_factory=Net)
    play: Play = field(default_factory=Play)
    records: Records = field(default_factory=Records)
    zero: Zero = field(default_factory=Zero)
    ppo: Ppo = field(default_factory=Ppo)
    optim: Optim = field(default_factory=lambda: Optim(lr=2e-3, weight_decay=1e-3, warmup_steps=100))
    # zero and ppo read batch, ema (by iteration), checkpoint_every (iterations), keep_checkpoints and publish
    train: Train = field(
        default_factory=lambda: Train(batch=256, ema=0.9, checkpoint_every=20, publish="last")
    )

    def __post_init__(self) -> None:
        for name in ("precision", "compile", "accumulate", "strategy"):
            value = getattr(self.train, name)
            if self.trainer != "records" and value != getattr(Train(), name):
                raise ConfigError(
                    f"train.{name} = {value!r}: only trainer = records has it, not {self.trainer}"
                )


def within(section: str, values: object, **bounds: tuple[float, float]) -> None:
    """ConfigError for a setting outside its bounds."""
    for name, (low, high) in bounds.items():
        value = getattr(values, name)
        if not low <= value <= high:
            raise ConfigError(f"{section}.{name} = {value}: {low:g} to {high:g} are possible")
