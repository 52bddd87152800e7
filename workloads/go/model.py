"""The network: one for boards of every size.

Residual blocks of convolutions, some with a bias from the whole board, as KataGo has them (Wu 2019,
"Accelerating Self-Play Learning in Go", §3.3): means and maxima over the board, the means also scaled by its
size. Heads: policy, value, score and ownership (§4). Boards of several sizes may stand in one batch, padded:
plane ON_BOARD says where a board is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from penstock.nn import one_thread
from workloads.go.board import Board
from workloads.go.planes import PLANES, observe
from workloads.go.symmetries import symmetries, turn

Floats = NDArray[np.float32]
ON_BOARD = 8
USUAL = 9.0  # rows of the board whose pooled numbers are left as they are
SCORE = 20.0  # points for each unit of the score head


class Outputs(NamedTuple):
    """Through the eyes of the side to move."""

    policy: Tensor  # [B, rows * columns + 1], logits, also of what may not be played
    value: Tensor  # [B], the logit of winning, halved: tanh of it is -1 to 1
    score: Tensor  # [B], points with komi, in units of SCORE
    ownership: Tensor  # [B, rows, columns], logits halved as above


class Opinions(NamedTuple):
    """The same in plain units."""

    policy: Floats  # [B, rows * columns + 1], logits
    value: Floats  # [B], -1 to 1
    score: Floats  # [B], points
    ownership: Floats  # [B, rows, columns], 1 own, -1 the enemy's


class Pool(nn.Module):
    """[B, C, r, c] to [B, 3 C]: mean, mean scaled by the board's size, maximum, over the board alone."""

    def forward(self, x: Tensor, on: Tensor) -> Tensor:
        area = on.sum((2, 3))
        mean = (x * on).sum((2, 3)) / area
        highest = (x - (1 - on) * 1e4).amax((2, 3))
        return torch.cat([mean, mean * (area.sqrt() - USUAL) / USUAL, highest], 1)


class Block(nn.Module):
    """A residual block before whose second convolution half of the channels hear of the whole board."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.pool = Pool()
        self.told = nn.Linear(3 * (width // 2), width - width // 2)
        self.told_width = width // 2
        self.norms = nn.ModuleList([Scale(width), Scale(width)])
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, on: Tensor) -> Tensor:
        inner = self.first(F.relu(self.norms[0](x)) * on)
        whole, local = inner[:, : self.told_width], inner[:, self.told_width :]
        bias = self.told(self.pool(F.relu(whole), on))
        inner = torch.cat([whole, local + bias[..., None, None]], 1)
        out: Tensor = x + self.second(F.relu(self.norms[1](inner)) * on)
        return out


class Scale(nn.Module):
    """A learned factor and bias for each channel: nothing that hangs on the rest of the batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class GoNet(nn.Module):
    """`blocks` residual blocks of `width` channels."""

    def __init__(self, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(PLANES, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.pool = Pool()
        self.point = nn.Conv2d(width, width, 1)
        self.told = nn.Linear(3 * width, width)
        self.move, self.owner = nn.Conv2d(width, 1, 1), nn.Conv2d(width, 1, 1)
        self.rest = nn.Linear(3 * width, 3)  # pass, value, score

    def forward(self, planes: Tensor) -> Outputs:
        """`planes` float32 [B, PLANES, rows, columns] as `observe` gives them."""
        on = planes[:, ON_BOARD : ON_BOARD + 1]
        x = self.stem(planes) * on
        for block in self.blocks:
            x = block(x, on)
        x = F.relu(x) * on
        pooled = self.pool(x, on)
        points = F.relu(self.point(x) + self.told(pooled)[..., None, None])
        rest = self.rest(pooled)
        moves = self.move(points).flatten(1)
        return Outputs(torch.cat([moves, rest[:, :1]], 1), rest[:, 1], rest[:, 2], self.owner(x)[:, 0])


class Judge:
    """A network as the search asks it (search.Evaluate)."""

    def __init__(self, module: nn.Module, device: str = "cpu") -> None:
        self.module, self.device = module.to(device), device
        # on a CPU half as fast again; torch's own annotations do not know the keyword
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, board: Board, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        return self.ask(observe(board, rows))

    def ask(self, planes: Floats) -> tuple[Floats, Floats]:
        """Logits and values of positions as `observe` gives them."""
        seen = self.outputs(planes)
        return seen.policy, seen.value

    def outputs(self, planes: Floats) -> Opinions:
        # one thread: the same sums anywhere, and two that wait for each other are slow beside other work
        with one_thread(), torch.inference_mode():
            seen = torch.from_numpy(planes).contiguous(memory_format=torch.channels_last)
            out = self.module(seen.to(self.device))
            policy, value, score, owner = (each.float().cpu() for each in out)
        return Opinions(policy.numpy(), value.tanh().numpy(), (score * SCORE).numpy(), owner.tanh().numpy())


class Turned:
    """What a judge says on average of all symmetries of a position: probabilities and values. A move and its
    image in a symmetric position are alike then."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def __call__(self, board: Board, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        planes = observe(board, rows)
        legal = board.legal[rows]
        policy, value = np.zeros(legal.shape, np.float64), np.zeros(len(rows), np.float64)
        moves = symmetries(board.rules.rows, board.rules.columns)
        for symmetry in moves:
            logits, worth = self.judge.ask(turn(planes, symmetry))
            back = np.where(legal, logits[:, symmetry].astype(np.float64), -np.inf)
            chances = np.exp(back - back.max(1, keepdims=True))
            policy += chances / chances.sum(1, keepdims=True) / len(moves)
            value += worth / len(moves)
        return np.log(np.maximum(policy, 1e-30)).astype(np.float32), value.astype(np.float32)
