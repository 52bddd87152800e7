"""A Go engine that speaks GTP 2: the commands of protocol.py's lines, and the game they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np

from workloads.go import handicap
from workloads.go.board import WHITE, Board, Kind, Rules, boards
from workloads.go.notation import NAMES, action_of, brief, colour_of, diagram, vertex
from workloads.go.players import Player, Timed
from workloads.go.protocol import Protocol, times, whole
from workloads.go.record import MOST_BYTES, Record, advance, read, replay, write

NAME, VERSION = "Penstock", "1"
MOVES = 30  # into so many shares main time is divided, anew at each move
RESERVE = 0.9  # the part of byo-yomi that is used; the rest is for the way there and back
LEAST = 0.01  # seconds


@dataclass(frozen=True)
class Clock:
    """`main` seconds, then `period` seconds for each `stones` moves."""

    main: float = 0.0
    period: float = 0.0
    stones: int = 0

    @property
    def share(self) -> float:
        """Seconds for the next move: of main time a thirtieth, and of a period the share of one move."""
        return max(self.main / MOVES + RESERVE * self.period / max(self.stones, 1), LEAST)


class Engine(Protocol):
    """One game. What a command means is GTP's; here is what that leaves open.

    The game is a `Record`; board 0 stands where it ends, and board 1 is a copy to look at with either colour
    to move. The same colour may play twice and the game may go on after two passes: the side to move is set
    by `Board.resume`, which adds nothing to the history and forgets nothing, so that superko stays exact;
    `undo` plays the record again without its last move. A setup (handicap, loadsgf) starts a history.
    Every stone counts as alive. `kgs-genmove_cleanup` is a plain genmove. A player that can be timed
    (players.Timed) gets `Clock.share` for a move: what `time_left` said last counts, less what genmove has
    taken of main time since; a period is taken to be whole until told otherwise.
    """

    def __init__(
        self, player: Player, rules: Rules | None = None, seed: int = 0, kind: Kind = "numba"
    ) -> None:
        """`rules`: 19 x 19 and a komi of 7 by default; `most_plies` 0 here means four times the points, at
        least 100. `seed` is the player's. ValueError for a board that is not square."""
        self.given = rules or Rules(19, 19)
        if self.given.rows != self.given.columns:
            raise ValueError(f"GTP has square boards, not {self.given.rows} x {self.given.columns}")
        self.player, self.kind = player, kind
        self.rng = np.random.default_rng(seed)
        super().__init__()
        self.settings: Clock | None = None  # None: no limit
        self.clocks: dict[int, Clock] = {}  # of a colour, where it is not `settings`
        self.start(Record(self.given.rows, self.given.komi))
        self.commands |= {
            "name": (lambda _: NAME, 0, 0),
            "version": (lambda _: VERSION, 0, 0),
            "boardsize": (self.boardsize, 1, 1),
            "clear_board": (self.clear_board, 0, 0),
            "komi": (self.komi, 1, 1),
            "fixed_handicap": (self.fixed_handicap, 1, 1),
            "place_free_handicap": (self.place_free_handicap, 1, 1),
            "set_free_handicap": (self.set_free_handicap, 0, 361),
            "play": (self.play, 2, 2),
            "genmove": (self.genmove, 1, 1),
            "reg_genmove": (self.reg_genmove, 1, 1),
            "kgs-genmove_cleanup": (self.genmove, 1, 1),
            "undo": (self.undo, 0, 0),
            "time_settings": (self.time_settings, 3, 3),
            "time_left": (self.time_left, 3, 3),
            "kgs-time_settings": (self.kgs_time_settings, 1, 4),
            "final_score": (self.final_score, 0, 0),
            "final_status_list": (self.final_status_list, 1, 1),
            "loadsgf": (self.loadsgf, 1, 2),
            "printsgf": (self.printsgf, 0, 0),
            "showboard": (self.showboard, 0, 0),
            "all_legal": (self.all_legal, 1, 1),
            "is_legal": (self.is_legal, 2, 2),
            "list_stones": (self.list_stones, 1, 1),
            "move_history": (self.move_history, 0, 0),
        }

    # ---------------------------------------------------------------- the game

    def start(self, record: Record) -> str:
        """The board as it is after a record. ValueError, and nothing changes, where that cannot be played."""
        size = record.size
        plies = self.given.most_plies or max(4 * size**2, 100)
        rules = replace(self.given, rows=size, columns=size, komi=record.komi, most_plies=plies)
        board = boards(rules, 2, self.kind)
        replay(record, board)
        self.board: Board = board
        self.record = record
        return ""

    def boardsize(self, words: list[str]) -> str:
        size = whole(words[0])
        if not 1 <= size <= 19:
            raise ValueError("unacceptable size")
        return self.start(Record(size, self.record.komi))

    def clear_board(self, words: list[str]) -> str:
        self.clocks = {}
        return self.start(Record(self.record.size, self.record.komi))

    def komi(self, words: list[str]) -> str:
        try:
            komi = float(words[0])
        except ValueError:
            komi = float("nan")
        if not abs(komi) <= 1000:  # NaN neither
            raise ValueError(f"komi {brief(words[0])}: a number of points up to 1000 is needed")
        return self.start(replace(self.record, komi=komi))

    def fixed_handicap(self, words: list[str]) -> str:
        return self.handicap(handicap.fixed(self.record.size, whole(words[0])))

    def place_free_handicap(self, words: list[str]) -> str:
        return self.handicap(handicap.free(self.record.size, whole(words[0])))

    def set_free_handicap(self, words: list[str]) -> str:
        size = self.record.size
        points = {self.action(word) for word in words}
        if len(points) < len(words) or not 2 <= len(points) < size**2 or size**2 in points:
            raise ValueError("bad vertex list")
        self.handicap(tuple(sorted(points)))
        return ""

    def handicap(self, points: tuple[int, ...]) -> str:
        if self.board.stones[0].any():
            raise ValueError("board not empty")
        size = self.record.size
        self.start(Record(size, self.record.komi, black=points, to_play=WHITE))
        return self.vertices(points)

    def play(self, words: list[str]) -> str:
        return self.move(colour_of(words[0]), self.action(words[1]))

    def genmove(self, words: list[str]) -> str:
        began = monotonic()
        action = self.choice(colour_of(words[0]))
        self.spend(colour_of(words[0]), monotonic() - began)
        if action is None:
            return "resign"
        self.move(colour_of(words[0]), action)
        return self.vertices([action])

    def reg_genmove(self, words: list[str]) -> str:
        action = self.choice(colour_of(words[0]))
        return "resign" if action is None else self.vertices([action])

    def undo(self, words: list[str]) -> str:
        if not self.record.moves:
            raise ValueError("cannot undo")
        return self.start(replace(self.record, moves=self.record.moves[:-1]))

    def loadsgf(self, words: list[str]) -> str:
        path = Path(words[0])
        try:
            if not path.is_file():
                raise ValueError(f"there is no file {brief(words[0])}")
            with path.open("rb") as file:
                record = read(file.read(MOST_BYTES + 1))
            if len(words) > 1:  # the position before that move
                record = replace(record, moves=record.moves[: max(whole(words[1]), 1) - 1])
            return self.start(record)
        except (ValueError, OSError) as error:
            raise ValueError(f"cannot load file: {error}") from None

    def printsgf(self, words: list[str]) -> str:
        return "\n".join(line for line in write(self.record).decode().splitlines() if line.strip())

    # ---------------------------------------------------------------- what is on the board

    def showboard(self, words: list[str]) -> str:
        return f"\n{diagram(self.board.stones[0])}\n{NAMES[int(self.board.to_play[0])]} to play"

    def final_score(self, words: list[str]) -> str:
        points = int(self.board.score()[0]) - self.record.komi
        return f"{'B' if points > 0 else 'W'}+{abs(points):g}" if points else "0"

    def final_status_list(self, words: list[str]) -> str:
        if words[0] not in ("alive", "seki", "dead"):
            raise ValueError(f"syntax error: status {brief(words[0])}; alive, seki and dead are possible")
        stones = np.flatnonzero(self.board.stones[0])
        return self.vertices(stones.tolist()) if words[0] == "alive" else ""

    def all_legal(self, words: list[str]) -> str:
        row = self.look(colour_of(words[0]))
        return self.vertices(np.flatnonzero(self.board.legal[row, :-1]).tolist())

    def is_legal(self, words: list[str]) -> str:
        row = self.look(colour_of(words[0]))
        return str(int(self.board.legal[row, self.action(words[1])]))

    def list_stones(self, words: list[str]) -> str:
        return self.vertices(np.flatnonzero(self.board.stones[0] == colour_of(words[0])).tolist())

    def move_history(self, words: list[str]) -> str:
        """The last move first."""
        return "\n".join(
            f"{NAMES[colour]} {self.vertices([each])}" for colour, each in self.record.moves[::-1]
        )

    # ---------------------------------------------------------------- time

    def time_settings(self, words: list[str]) -> str:
        """A period for no moves means no limit, as GTP has it, and so does no time at all."""
        main, period, stones = times(words)
        limited = stones > 0 if period else main > 0
        self.settings, self.clocks = Clock(main, period, stones) if limited else None, {}
        return ""

    def kgs_time_settings(self, words: list[str]) -> str:
        """In byo-yomi each move has its period, of which there are several."""
        kind, *numbers = words
        wanted = {"none": 0, "absolute": 1, "byoyomi": 3, "canadian": 3}
        if kind not in wanted:
            raise ValueError(f"syntax error: time system {brief(kind)}; {', '.join(wanted)} are possible")
        if len(numbers) != wanted[kind]:
            raise ValueError(f"syntax error: {kind} takes {wanted[kind]} numbers, not {len(numbers)}")
        main, period, stones = [*numbers, "0", "0", "0"][:3]
        return self.time_settings([main, period, "1" if kind == "byoyomi" else stones])

    def time_left(self, words: list[str]) -> str:
        """No stones: main time. Where a period is for one move, KGS counts periods in place of stones."""
        colour, (seconds, stones) = colour_of(words[0]), times(words[1:])
        given = self.settings or Clock()
        if stones:
            self.clocks[colour] = Clock(0, seconds, min(stones, given.stones or stones))
        elif seconds or self.settings:  # nothing left of no limit is no limit
            self.clocks[colour] = replace(given, main=seconds)
        return ""

    def spend(self, colour: int, seconds: float) -> None:
        clock = self.clocks.get(colour, self.settings)
        if clock is not None:
            self.clocks[colour] = replace(self.settings or Clock(), main=max(clock.main - seconds, 0))

    # ---------------------------------------------------------------- helpers

    def move(self, colour: int, action: int) -> str:
        record = replace(self.record, moves=(*self.record.moves, (colour, action)))
        advance(self.board, 0, colour, action)
        self.record = record
        return ""

    def choice(self, colour: int) -> int | None:
        row, clock = self.look(colour), self.clocks.get(colour, self.settings)
        if clock is not None and isinstance(self.player, Timed):
            return self.player.think(self.board, row, seconds=clock.share).action
        return self.player.choose(self.board, row, self.rng)

    def look(self, colour: int) -> int:
        """The number of a board that is the game's with `colour` to move."""
        self.board.copy([0], [1])
        if self.board.to_play[1] != colour or self.board.over[1]:
            self.board.resume(1, colour)
        return 1

    def action(self, word: str) -> int:
        return action_of(word, self.record.size, self.record.size)

    def vertices(self, actions: Sequence[int]) -> str:
        return " ".join(vertex(action, self.record.size, self.record.size) for action in actions)
