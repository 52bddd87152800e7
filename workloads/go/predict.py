"""Positions to moves: the only inference code of this workload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.capabilities import Position
from penstock.workload import Model, Refusal
from workloads.go.board import BLACK, Board, IllegalMove, Rules, boards
from workloads.go.config import Config
from workloads.go.greedy import GreedyPlayer
from workloads.go.match import ended
from workloads.go.messages import KOMI, SIZE, Candidate, GoAnswer, GoRequest, Opponent, Played, Reviewed
from workloads.go.model import GoNet, Judge, Turned
from workloads.go.notation import NAMES, action_of, brief, vertex
from workloads.go.planes import observe
from workloads.go.players import Player, RandomPlayer
from workloads.go.record import Record, advance, begin, read, reason
from workloads.go.thinking import Thinker, Thought

SHOWN = 10  # candidates in an answer
LONGEST_GAME = 40_000  # evaluations of the network that a game may take, at most
SIGNS = {BLACK: "X", -BLACK: "O", 0: "."}


class Wanted(NamedTuple):
    """A position as the client gave it."""

    board: Board  # one
    moves: Sequence[tuple[int, int]]  # colour, action
    start: Record


class GoPredictor:
    """A loaded Go model. Each request is answered alone, so that no other changes a bit of it."""

    def __init__(self, model: Model[Config], device: str) -> None:
        self.settings = model.config.play
        module = GoNet(model.config.model.width, model.config.model.blocks)
        module.load_state_dict(dict(model.weights))
        self.judge = Judge(module.float().eval().requires_grad_(False), device)

    def predict(self, requests: Sequence[GoRequest]) -> list[GoAnswer | Refusal]:
        return [self.answer(request) for request in requests]

    def position(self, request: GoRequest) -> Position | Refusal:
        """What stands after the moves of a request, and what may be played (capabilities.Board)."""
        wanted = opened(request)
        if isinstance(wanted, Refusal):
            return wanted
        board = wanted.board
        rows, columns = board.rules.rows, board.rules.columns
        legal = [vertex(int(action), rows, columns) for action in np.flatnonzero(board.legal[0])]
        stones = tuple(tuple(row) for row in board.stones[0].tolist())
        side = NAMES[int(board.to_play[0])]
        return Position(stones, side, tuple(legal), bool(board.done[0]), float(board.value()[0]))

    # ---------------------------------------------------------------- one request

    def answer(self, request: GoRequest) -> GoAnswer | Refusal:
        wanted = opened(request)
        if isinstance(wanted, Refusal):
            return wanted
        board = wanted.board
        visits = self.settings.visits if request.visits is None else request.visits
        plies = board.rules.cap - int(board.plies[0])
        if request.against and plies * max(visits, 1) > LONGEST_GAME:
            least = LONGEST_GAME // plies
            return Refusal(f"a game of {plies} moves: {least} visits a move are possible here", "/visits")
        seen = self.judge.outputs(observe(board))
        side = int(board.to_play[0])
        if board.done[0]:
            value, points = float(np.sign(board.value()[0])) * side, float(board.value()[0]) * side
            owned = board.ownership()[0].astype(np.float64)
            move: str | None = None
            variation: list[str] = []
            candidates: list[Candidate] = []
        else:
            points, owned = float(seen.score[0]), side * seen.ownership[0].astype(np.float64)
            move, value, variation, candidates = self.search(board, visits, request)
        return GoAnswer(
            move=move,
            win_rate=(value + 1) / 2,
            score=points,
            ownership=owned.tolist(),
            variation=variation,
            candidates=candidates,
            to_play="black" if side == BLACK else "white",
            stones=["".join(SIGNS[stone] for stone in row) for row in board.stones[0].tolist()],
            over=bool(board.done[0]),
            review=self.review(wanted) if request.review else [],
            game=self.played(board, request.against, visits, request) if request.against else None,
        )

    def search(
        self, board: Board, visits: int, request: GoRequest
    ) -> tuple[str, float, list[str], list[Candidate]]:
        """The move, what the side to move may expect, the line it expects, and what was considered."""
        names = [vertex(a, board.rules.rows, board.rules.columns) for a in range(board.rules.actions)]
        evaluate = Turned(self.judge) if request.symmetries else self.judge
        logits, values = evaluate(board, np.array([0]))
        prior = chances(logits[0], board.legal[0])
        noise = None if request.seed is None else np.random.default_rng(request.seed)
        if visits:
            at_root = evaluate if request.symmetries else None
            found = Thinker(self.judge, visits, self.settings.considered, at_root).think(board, 0, noise)
        else:
            drawn = prior if noise is None else np.log(prior + 1e-30) + noise.gumbel(size=len(prior))
            best = int(np.argmax(np.where(board.legal[0], drawn, -np.inf)))
            tried = np.zeros(len(prior), np.int32)
            found = Thought(best, float(values[0]), prior.astype(np.float32), tried, [best], 0)
        best, policy, tried = found.action, found.policy, found.tried
        order = np.lexsort((np.arange(len(prior)), -prior, -policy, -tried)).tolist()
        order = [best, *(a for a in order if a != best and board.legal[0, a])][:SHOWN]
        shown = [
            Candidate(move=names[a], prior=float(prior[a]), policy=float(policy[a]), visits=int(tried[a]))
            for a in order
        ]
        return names[best], found.value, [names[a] for a in found.variation], shown

    def player(self, visits: int, seconds: float = 0.0) -> Player:
        """The model as somebody to play with (matches, GTP); 0 visits: the network alone."""
        if visits == 0:
            return NetPlayer(self.judge)
        return Thinker(self.judge, visits, self.settings.considered, seconds=seconds)

    def played(self, start: Board, against: Opponent, visits: int, request: GoRequest) -> Played:
        """A game from here to its end: the model has the side to move, and plays its best moves."""
        board = boards(start.rules, 1)
        board.copy([0], [0], start)
        rng = np.random.default_rng(request.seed or 0)
        side = int(board.to_play[0])
        other: Player = RandomPlayer() if against == "random" else GreedyPlayer()
        players = {side: self.player(visits), -side: other}
        moves: list[int] = []
        while not board.done[0]:
            action = players[int(board.to_play[0])].choose(board, 0, rng)
            assert action is not None
            moves.append(action)
            board.step([action])
        result = ended(board, moves, "")
        names = [vertex(action, board.rules.rows, board.rules.columns) for action in moves]
        return Played(moves=names, result=result.result, outcome=(1 + side * result.winner) / 2)

    def review(self, wanted: Wanted) -> list[Reviewed]:
        """Each move that was played, as the network saw the position before it."""
        if not wanted.moves:
            return []
        board, rules = boards(wanted.board.rules, 1), wanted.board.rules
        begin(wanted.start, board)
        planes, legal = [], []
        for colour, action in wanted.moves:
            if colour != board.to_play[0] or board.over[0]:
                board.resume(0, colour)
            planes.append(observe(board)[0])
            legal.append(board.legal[0].copy())
            board.step([action])
        logits, values = self.judge.ask(np.stack(planes))
        found = []
        for number, (_, action) in enumerate(wanted.moves):
            prior = chances(logits[number], legal[number])
            found.append(
                Reviewed(
                    best=vertex(int(prior.argmax()), rules.rows, rules.columns),
                    probability=float(prior[action]),
                    win_rate=(float(values[number]) + 1) / 2,
                )
            )
        return found


class NetPlayer:
    """The likeliest legal move by the network alone (players.Player)."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int:
        logits, _ = self.judge(board, np.array([row]))
        return int(np.where(board.legal[row], logits[0], -np.inf).argmax())


def opened(request: GoRequest) -> Wanted | Refusal:
    """The position that is meant; a Refusal names the field and what is wrong with it."""
    record: Record
    if request.sgf is not None:
        if request.moves or request.size is not None or request.komi is not None:
            return Refusal("a record has its own size, komi and moves: give sgf alone, or them", "/sgf")
        try:
            record = read(request.sgf.encode("latin-1", "replace"))
        except ValueError as error:
            return Refusal(str(error), "/sgf")
    else:
        size = SIZE if request.size is None else request.size
        record = Record(size, KOMI if request.komi is None else request.komi)
    size = record.size
    pointers = ["/sgf"] * len(record.moves)
    moves = list(record.moves)
    for number, word in enumerate(request.moves):
        try:
            moves.append((BLACK if number % 2 == 0 else -BLACK, action_of(word, size, size)))
        except ValueError as error:
            return Refusal(str(error), f"/moves/{number}")
        pointers.append(f"/moves/{number}")
    plies = max(2 * size**2, 20, len(moves) + size**2)
    rules = Rules(size, size, record.komi, request.suicide, request.superko, plies)
    board = boards(rules, 1)
    try:
        begin(record, board)
    except ValueError as error:
        return Refusal(str(error), "/sgf")
    for number, (colour, action) in enumerate(moves):
        if request.sgf is None and board.over[0]:
            return Refusal(
                f"move {number + 1}, {request.moves[number]}: over (both have passed)", pointers[number]
            )
        try:
            advance(board, 0, colour, action)
        except IllegalMove as error:
            where = f"move {number + 1}, {brief(vertex(action, size, size))}"
            return Refusal(f"{where}: {reason(error)}", pointers[number])
    return Wanted(board, moves, record)


def chances(logits: NDArray[np.float32], legal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Probabilities of the legal actions; the others have 0."""
    open_ = np.where(legal, logits.astype(np.float64), -np.inf)
    weights = np.exp(open_ - open_.max())
    return np.asarray(weights / weights.sum(), np.float64)
