"""Games between two players on our own board, and what a match says about them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workloads.go.board import BLACK, SAYS, WHITE, Board, Kind, Rules, boards
from workloads.go.notation import NAMES, vertex
from workloads.go.players import Follower, Player
from workloads.go.record import Record, write

GNUGO = (
    *("gnugo", "--mode", "gtp", "--chinese-rules", "--positional-superko", "--forbid-suicide"),
    *("--capture-all-dead", "--play-out-aftermath"),
)
NORMAL_95 = 1.959964  # standard deviations on either side that hold 95 % of a normal distribution
MOST_GAMES = 10_000


@dataclass(frozen=True)
class Game:
    """`moves`: all actions, those of the opening included. `winner`: 1, -1, or 0 for a draw. `points`: of
    Black minus White's as the stones stand, komi counted. `reason`: what ended it. `result`: as SGF has it,
    `B+3.5`, `W+Resign`, `B+Forfeit` or `Draw`."""

    rules: Rules
    moves: tuple[int, ...]
    winner: int
    points: float
    reason: str
    result: str


@dataclass(frozen=True)
class Result:
    """Of the first player. `score`: wins and half the draws, a share of the games; `low` to `high`: 95 %."""

    wins: int
    draws: int
    losses: int
    score: float
    low: float
    high: float
    games: tuple[Game, ...]


def play_game(
    black: Player,
    white: Player,
    rules: Rules,
    opening: Sequence[int] = (),
    seed: Sequence[int] | int = 0,
    kind: Kind = "numba",
) -> Game:
    """One game, arbitrated here: who plays an illegal move has lost. A game that is cut off is counted as it
    stands. The players draw from streams of their own. ValueError for an opening that cannot be played."""
    board = boards(rules, 1, kind)
    for ply in opening:
        board.step([ply])
    players = {BLACK: black, WHITE: white}
    for each in {id(each): each for each in players.values()}.values():
        if isinstance(each, Follower):
            each.begin(rules, opening)
    black_seed, white_seed = np.random.SeedSequence(seed).spawn(2)
    rng = {BLACK: np.random.default_rng(black_seed), WHITE: np.random.default_rng(white_seed)}
    moves = list(opening)

    while not board.done[0]:
        colour = int(board.to_play[0])
        action = players[colour].choose(board, 0, rng[colour])
        if action is None:
            return ended(board, moves, f"{NAMES[colour]} resigned", colour, "Resign")
        wrong = illegal(board, action)
        if wrong:
            fault = f"{NAMES[colour]}'s illegal move {len(moves) + 1}: {wrong}"
            return ended(board, moves, fault, colour, "Forfeit")
        board.step([action])
        moves.append(action)
    return ended(board, moves, "both passed" if board.over[0] else f"cut off after {len(moves)} moves")


def ended(board: Board, moves: Sequence[int], reason: str, loser: int = 0, how: str = "") -> Game:
    """What came of the game on board 0. `loser`: who has lost however the stones stand, and `how`."""
    points = int(board.score()[0]) - board.rules.komi
    winner = -loser or int(np.sign(points))
    result = f"{'B' if winner == BLACK else 'W'}+{how or f'{abs(points):g}'}" if winner else "Draw"
    return Game(board.rules, tuple(moves), winner, points, reason, result)


def illegal(board: Board, action: int) -> str:
    """`C3 is superko (an earlier position would come back)`; empty where the move may be played."""
    if not 0 <= action < board.rules.actions:
        return f"action {action} is none of 0 to {board.rules.points}"
    why = board.why(0, action)
    if why is None:
        return ""
    return f"{vertex(action, board.rules.rows, board.rules.columns)} is {why} ({SAYS[why]})"


def match(
    one: Player,
    other: Player,
    games: int,
    rules: Rules,
    openings: Sequence[Sequence[int]] = ((),),
    komis: Sequence[float] = (),
    seed: int = 0,
    records: Path | None = None,
    names: tuple[str, str] = ("one", "other"),
    each: Callable[[int, Game, bool], None] = lambda number, game, black: None,
    kind: Kind = "numba",
) -> Result:
    """`games`, an even number: each opening twice in a row, once with either colour, over and over.

    `komis`: one for each opening, in place of the rules'. `records`: a folder, made when it is missing, for
    the SGF of every game. `each` is told the number of a finished game from 0, and whether `one` was Black.
    """
    if not openings or (komis and len(komis) != len(openings)):
        raise ValueError(f"{len(openings)} openings and {len(komis)} komis: one komi for each is needed")
    if records is not None:
        if rules.rows != rules.columns:
            raise ValueError(f"records: SGF is written of square boards, not {rules.rows} x {rules.columns}")
        records.mkdir(parents=True, exist_ok=True)
    played: list[Game] = []
    outcomes = []
    for number in range(even(games)):
        pair, first = number // 2 % len(openings), number % 2 == 0
        here = replace(rules, komi=komis[pair]) if komis else rules
        black, white = (one, other) if first else (other, one)
        game = play_game(black, white, here, openings[pair], (seed, number), kind)
        played.append(game)
        outcomes.append(game.winner if first else -game.winner)
        if records is not None:
            by = names if first else (names[1], names[0])
            (records / f"game-{number:04}.sgf").write_bytes(write(record_of(game, by)))
        each(number, game, first)
    wins, draws, losses = (outcomes.count(outcome) for outcome in (1, 0, -1))
    low, high = wilson(wins + draws / 2, games)
    return Result(wins, draws, losses, (wins + draws / 2) / games, low, high, tuple(played))


def even(games: int) -> int:
    """The number. ValueError for one that a match cannot have."""
    if not (0 < games <= MOST_GAMES and games % 2 == 0):
        raise ValueError(f"games = {games}: an even number up to {MOST_GAMES} is needed, for both colours")
    return games


def record_of(game: Game, names: tuple[str, str]) -> Record:
    colours = (BLACK if ply % 2 == 0 else WHITE for ply in range(len(game.moves)))
    moves = tuple(zip(colours, game.moves, strict=False))
    return Record(game.rules.rows, game.rules.komi, moves=moves, result=game.result, names=names)


def wilson(won: float, games: int, z: float = NORMAL_95) -> tuple[float, float]:
    """The score interval of a share `won / games` (Wilson 1927, JASA 22, 209-212)."""
    share, spread = won / games, z * z / games
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / games + spread / (4 * games))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def elo(score: float) -> float:
    """The difference in rating at which a player is expected to score that share (Elo 1978, The Rating of
    Chessplayers: 1 / (1 + 10^(-d/400))); infinite at 0 and 1."""
    if not 0 <= score <= 1:
        raise ValueError(f"score = {score}: a share of 0 to 1 is needed")
    if score in (0, 1):
        return math.inf if score else -math.inf
    return 400 * math.log10(score / (1 - score))


def gnugo(level: int, seed: int = 0) -> list[str]:
    """The command line of GNU Go under our rules, level 0 to 10. FileNotFoundError where it is missing."""
    found = gnugo_file()
    if not 0 <= level <= 10:
        raise ValueError(f"level = {level}: GNU Go has 0 to 10")
    return [found, *GNUGO[1:], "--level", str(level), "--seed", str(seed)]


def gnugo_file() -> str:
    """Where GNU Go is; Debian's place for games is not on the PATH of all. FileNotFoundError."""
    found = shutil.which(GNUGO[0]) or shutil.which(GNUGO[0], path="/usr/games")
    if found is None:
        raise FileNotFoundError("GNU Go is neither on PATH nor in /usr/games; apt-get install gnugo")
    return found
