"""How a model is judged: the moves of test records, and games against fixed opponents.

A record of the table is a game: one of the test records (`right` of `moves` as the network alone would have
played), or one played against an opponent (`outcome` 1, 0.5 or 0).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penstock.workload import Refusal, Row, Schema
from workloads.go.board import Rules, boards
from workloads.go.config import Config
from workloads.go.data import OPPONENTS
from workloads.go.drawing import picture, png
from workloads.go.messages import GoAnswer, GoRequest
from workloads.go.notation import action_of, vertex
from workloads.go.record import read

if TYPE_CHECKING:
    from penstock.report import Figure


class GoEvaluator:
    """`accuracy`: moves of the records that are the likeliest by the network alone (any right move counts
    where the source knows them); `win_rate`: games won against the fixed opponents with `play.judged`
    simulations a move, draws half, each opponent alike; and against each of them."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config

    def requests(self, rows: Sequence[Row]) -> list[GoRequest]:
        return [self.request(row) for row in rows]

    def request(self, row: Row) -> GoRequest:
        if not row["opponent"]:
            return GoRequest(sgf=row["sgf"].decode("latin-1"), superko="simple", visits=0, review=True)
        return GoRequest(
            size=row["size"],
            komi=row["komi"],
            moves=json.loads(row["moves"]),
            visits=self.config.play.judged,
            against=row["opponent"],
        )

    def records(self, rows: Sequence[Row], answers: Sequence[GoAnswer | Refusal]) -> pa.Table:
        right: list[bool]
        surprise: list[float]
        columns: dict[str, list[Any]] = {
            "opponent": [],
            "moves": [],
            "right": [],
            "surprise": [],
            "outcome": [],
        }
        for row, answer in zip(rows, answers, strict=True):
            right, surprise = ([], []) if row["opponent"] else self.judged(row, answer)
            game = None if isinstance(answer, Refusal) else answer.game
            columns["opponent"].append(row["opponent"])
            columns["moves"].append(len(right))
            columns["right"].append(sum(right))
            columns["surprise"].append(float(np.sum(surprise)))
            columns["outcome"].append(0.0 if game is None else game.outcome)
        return pa.table(columns)

    def judged(self, row: Row, answer: GoAnswer | Refusal) -> tuple[list[bool], list[float]]:
        """Of each move of a record: whether the network would have played it, and -ln of its probability."""
        record = read(row["sgf"])
        accepted = json.loads(row["accepted"]) if row["accepted"] else [[a] for _, a in record.moves]
        wanted = [[vertex(action, record.size, record.size) for action in each] for each in accepted]
        if isinstance(answer, Refusal):
            count = sum(bool(each) for each in wanted)
            return [False] * count, [math.log(record.size**2 + 1)] * count
        pairs = [(each, said) for each, said in zip(wanted, answer.review, strict=True) if each]
        return (
            [said.best in each for each, said in pairs],
            [-math.log(max(said.probability, 1e-12)) for _, said in pairs],
        )

    def summarise(self, records: pa.Table) -> dict[str, float]:
        opponent = records["opponent"].to_numpy(zero_copy_only=False).astype(str)
        moves, right, surprise, outcome = (
            records[name].to_numpy().astype(np.float64) for name in ("moves", "right", "surprise", "outcome")
        )
        count = moves.sum()
        rates = {name: mean(outcome[opponent == name]) for name in OPPONENTS}
        return {
            "win_rate": float(np.mean(list(rates.values()))),
            **{f"win_rate/{name}": rate for name, rate in rates.items()},
            "accuracy": float(right.sum() / count) if count else math.nan,
            "log_loss": float(surprise.sum() / count) if count else math.nan,
        }

    def figures(
        self, records: pa.Table, rows: Sequence[Row], answers: Sequence[GoAnswer | Refusal]
    ) -> list[Figure]:
        """How often the recorded move was the network's in each game, and the end of a game that was
        played."""
        from penstock.report import draw, picture_figure

        moves, right = records["moves"].to_numpy(), records["right"].to_numpy()
        figures = []
        if moves.any():

            def shares(axes: Any) -> None:
                axes.hist(right[moves > 0] / moves[moves > 0], bins=np.linspace(0, 1, 21))
                axes.set_xlabel("share of a game's moves that the network would have played")
                axes.set_ylabel("games")

            figures.append(draw("Moves of the test records", shares))
        for row, answer in zip(rows, answers, strict=True):
            if isinstance(answer, GoAnswer) and answer.game is not None:
                board, last = played_out(row, answer)
                caption = f"against {row['opponent']}, the model {answer.to_play}: {answer.game.result}"
                figures.append(picture_figure("A game at its end", png(picture(board, last)), caption))
                break
        return figures


def played_out(row: Row, answer: GoAnswer) -> tuple[NDArray[np.int8], int]:
    """The stones at the end of a match game, and the last action."""
    size = int(row["size"])
    assert answer.game is not None
    board = boards(Rules(size, size, float(row["komi"])), 1, "numpy")
    for word in (*json.loads(row["moves"]), *answer.game.moves):
        board.step([action_of(word, size, size)])
    return board.stones[0], int(board.last[0])


def mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan
