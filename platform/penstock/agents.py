"""Trainers that learn from games they play themselves: what a workload gives to penstock.rl, where RLlib is.

One of `Workload.trainers` is a `Task` (penstock.workload), which learns from the rows of a data set, or one
of the two here. They know nothing of RLlib, and read no data; a data set only judges what they made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from penstock.workload import Workload, resolve

if TYPE_CHECKING:
    import gymnasium
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    Rows = Mapping[str, NDArray[np.generic]]
    """Experience by column: arrays with the same first dimension."""
    Weights = Mapping[str, Tensor]

Learns = Literal["data", "self-play", "environment"]


@dataclass(frozen=True)
class Plan:
    """How long, how much. A run ends with the first limit it reaches; `minutes` are counted over all
    attempts, 0 = no such limit, and then a run can be repeated."""

    iterations: int
    minutes: float
    batch: int  # rows an update learns from
    learners: int = 0  # remote ones; 0 = in the process that drives
    rate_every: int = 0  # iterations between ratings; 0 = eight in the whole run
    capacity: int = 0  # self-play: rows that are remembered
    reuse: float = 0.0  # self-play: how often a row is learned from, on average
    environments: int = 0  # environment: of each env runner
    steps: int = 0  # environment: of each of them in an iteration
    pool: int = 0  # environment: earlier weights among the opponents
    pool_every: int = 1  # environment: iterations between them


class Experience(NamedTuple):
    """What an actor has played. Rows of another `kind` (another board size) are remembered apart, and are not
    learned from any more. `facts`: sums and counts by name, for people."""

    kind: str
    rows: Rows
    facts: Mapping[str, float]


class Actor(Protocol):
    """Plays games; made by `SelfPlay.actor`, lives as long as its env runner."""

    def play(self, done: float) -> Experience:
        """The rows of one iteration, with the module's weights as they are now. `done`: the share of the run
        that lies behind, 0 to 1."""
        ...


class Agent(Protocol):
    """What both kinds have. Made as `Agent(config, schema)` under a fixed seed."""

    learns: ClassVar[Learns]
    module: nn.Module
    """Everything that learns; its state_dict is what is published."""
    plan: Plan

    def rate(self, weights: Weights, past: Sequence[Weights], seed: int) -> Sequence[tuple[float, int]]:
        """Plays against earlier weights: of each the share that was won, draws half, and the games."""
        ...


class SelfPlay(Agent, Protocol):
    """`learns = "self-play"`: from games of its own search."""

    def actor(self, seed: Sequence[int]) -> Actor:
        """A player that uses `module`, on the device where it is."""
        ...

    def batch(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Remembered rows as the network is shown them (augmented, as floats)."""
        ...

    def loss(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Means over the batch: "loss", which is minimised, and its parts."""
        ...


class PolicyGradient(Agent, Protocol):
    """`learns = "environment"`: by PPO in a gymnasium VectorEnv whose observations are dicts."""

    def environment(self, count: int) -> gymnasium.vector.VectorEnv[Any, Any, Any]: ...

    def pool(self, environment: gymnasium.vector.VectorEnv[Any, Any, Any], past: Sequence[Weights]) -> None:
        """Makes earlier weights the opponents of games that begin from now on."""
        ...

    def act(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [B, actions], of what may not be done -1e9 or less, and values [B]."""
        ...

    ppo: Mapping[str, Any]
    """Settings of RLlib's PPO by its own names (`clip_param`, …)."""


def learns(workload: Workload[Any], config: Any) -> Learns:
    """What the trainer that `config` asks for learns from."""
    trainer = resolve(workload.trainers[workload.trainer(config)])
    found: Learns = getattr(trainer, "learns", "data")
    return found
