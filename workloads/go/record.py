"""A game written down: SGF (FF[4]) in and out, and played again on a board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sgfmill import sgf, sgf_properties

from workloads.go.board import BLACK, SAYS, WHITE, Board, IllegalMove
from workloads.go.notation import LETTERS, NAMES, brief, vertex

Move = tuple[int, int]  # colour, action
MOST_BYTES = 1_000_000
MOST_MOVES = 2_000
LONGEST_TEXT = 200
SIDES = {"b": BLACK, "w": WHITE}


@dataclass(frozen=True)
class Record:
    """A game on a square board. `black` and `white`: the points of stones set up before the first move, by
    `to_play`. Moves in the order played; one colour may move twice. ValueError for what is no such game."""

    size: int = 19  # 1 to 19
    komi: float = 0.0
    black: tuple[int, ...] = ()
    white: tuple[int, ...] = ()
    to_play: int = BLACK
    moves: tuple[Move, ...] = ()
    result: str = ""
    names: tuple[str, str] = ("", "")  # Black's and White's

    def __post_init__(self) -> None:
        if not 1 <= self.size <= len(LETTERS):
            raise ValueError(f"SZ: a board of size {self.size}; 1 to {len(LETTERS)} are possible")
        if not abs(self.komi) <= 1000:
            raise ValueError(f"KM: a komi of {self.komi}; a number of points up to 1000 is needed")
        points = range(self.size**2)
        if any(each not in points for each in (*self.black, *self.white)):
            raise ValueError("AB, AW: a stone outside the board")
        if len({*self.black, *self.white}) < len(self.black) + len(self.white):
            raise ValueError("AB, AW: two stones at one point")
        if len(self.moves) > MOST_MOVES:
            raise ValueError(f"{len(self.moves)} moves; a record holds {MOST_MOVES}")
        for number, (colour, action) in enumerate(self.moves, 1):
            if colour not in NAMES or not 0 <= action <= self.size**2:
                raise ValueError(f"move {number}: colour {colour}, action {action} is no move")
        if any(len(text) > LONGEST_TEXT for text in (self.result, *self.names)):
            raise ValueError(f"PB, PW, RE: a text of more than {LONGEST_TEXT} characters")


def read(content: bytes) -> Record:
    """The main line of the first game in an SGF file. ValueError, one line, says what is wrong with it."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"not read: {len(content)} bytes of SGF; {MOST_BYTES} are allowed")
    try:
        game = sgf.Sgf_game.from_bytes(content)
        nodes = iter(game.main_sequence_iter())
        root = next(nodes)
    except (ValueError, LookupError) as error:
        raise ValueError(f"not SGF: {brief(str(error), 200)}") from None
    size = game.get_size()
    if size > len(LETTERS):
        raise ValueError(f"SZ: a board of size {size}; 1 to {len(LETTERS)} are possible")
    if root.has_property("GM") and root.get_raw("GM").strip() not in (b"1", b""):
        raise ValueError(f"GM: game {brief(root.get_raw('GM').decode('latin-1'))!r}; Go is 1")
    stones: dict[int, int] = {}
    moves: list[Move] = []
    to_play = None
    for number, node in enumerate((root, *nodes)):
        if node.has_setup_stones():
            if moves:
                raise ValueError(f"node {number}: stones are set up (AB, AW, AE) after move {len(moves)}")
            set_up(node, number, size, stones)
        if node.has_property("PL") and not moves:
            to_play = SIDES[value(node, "PL", "")]
        if node.has_property("B") and node.has_property("W"):
            raise ValueError(f"node {number}: a move of Black and one of White at once")
        colour, raw = node.get_raw_move()
        if colour is None:
            continue
        try:
            point = sgf_properties.interpret_go_point(raw, size)
        except ValueError:
            shown = brief(raw.decode("latin-1"))
            raise ValueError(f"move {len(moves) + 1}: {colour.upper()}[{shown}] is no point") from None
        moves.append((SIDES[colour], action_at(point, size)))
        if len(moves) > MOST_MOVES:
            raise ValueError(f"more than {MOST_MOVES} moves")
    black = tuple(sorted(point for point, colour in stones.items() if colour == BLACK))
    white = tuple(sorted(point for point, colour in stones.items() if colour == WHITE))
    if to_play is None:
        after_handicap = WHITE if len(black) > 1 and not white else BLACK
        to_play = moves[0][0] if moves else after_handicap
    return Record(
        *(size, float(value(root, "KM", 0.0)), black, white, to_play, tuple(moves)),
        result=value(root, "RE", ""),
        names=(value(root, "PB", ""), value(root, "PW", "")),
    )


def set_up(node: sgf.Node, number: int, size: int, stones: dict[int, int]) -> None:
    """AB, AW and AE of a node, added to `stones`. ValueError for a point named twice or outside."""
    seen: set[int] = set()
    for name, colour in (("AB", BLACK), ("AW", WHITE), ("AE", 0)):
        if not node.has_property(name):
            continue
        # a rectangle costs its area to read
        if len(node.get_raw_list(name)) > size**2:
            raise ValueError(f"node {number}: {name} names more points than the board has")
        points = {action_at(point, size) for point in value(node, name, ())}
        if points & seen:
            raise ValueError(f"node {number}: {name} names a point that has been set already")
        seen |= points
        stones.update(dict.fromkeys(points, colour))


def value(node: sgf.Node, name: str, default: Any) -> Any:
    """A property as SGF types it; the default where it is absent or blank. ValueError names it."""
    if not node.has_property(name) or node.get_raw_list(name) == [b""]:
        return default
    raw = node.get_raw(name)
    if isinstance(default, str) and len(raw) > 4 * LONGEST_TEXT:
        raise ValueError(f"{name}: a text of more than {LONGEST_TEXT} characters")
    try:
        return node.get(name)
    except (ValueError, LookupError):
        raise ValueError(f"{name}[{brief(raw.decode('latin-1'))}] cannot be read") from None


def write(record: Record) -> bytes:
    """SGF of a record, UTF-8, a pass as `tt`. ValueError for a text that UTF-8 cannot hold."""
    game = sgf.Sgf_game(record.size, encoding="UTF-8")
    root = game.get_root()
    root.set("KM", record.komi)
    for name, text in (("PB", record.names[0]), ("PW", record.names[1]), ("RE", record.result)):
        if text:
            root.set(name, text)
    root.set_setup_stones(
        *([point_at(each, record.size) for each in side] for side in (record.black, record.white))
    )
    if len(record.black) > 1 and not record.white:
        root.set("HA", len(record.black))
    root.set("PL", "b" if record.to_play == BLACK else "w")
    for colour, action in record.moves:
        game.extend_main_sequence().set_move("b" if colour == BLACK else "w", point_at(action, record.size))
    return bytes(game.serialise())


def begin(record: Record, board: Board, row: int = 0) -> None:
    """Sets one of the boards up as a record begins. ValueError where sizes differ, or a chain has no
    liberty."""
    size = record.size
    if (board.rules.rows, board.rules.columns) != (size, size):
        raise ValueError(f"a record of size {size} on a board of {board.rules.rows} x {board.rules.columns}")
    stones = np.zeros(size * size, np.int8)
    stones[list(record.black)], stones[list(record.white)] = BLACK, WHITE
    board.set_up(row, stones.reshape(size, size), record.to_play)


def replay(record: Record, board: Board, row: int = 0) -> None:
    """Plays a record from its start on one of the boards, by the board's rules; after two passes it goes on
    where the record does. ValueError names the first move that is illegal there, and why."""
    begin(record, board, row)
    size = record.size
    for number, (colour, action) in enumerate(record.moves, 1):
        try:
            advance(board, row, colour, action)
        except IllegalMove as error:
            where = f"move {number} ({NAMES[colour]} {vertex(action, size, size)})"
            raise ValueError(f"{where} is illegal: {reason(error)}") from None


def advance(board: Board, row: int, colour: int, action: int) -> None:
    """A move of either colour, whoever is to play, also after two passes. All positions are remembered, and
    no passes are put in between. IllegalMove leaves the side to move as `colour`, and no more."""
    if colour != board.to_play[row] or board.over[row]:
        board.resume(row, colour)
    actions = np.full(len(board), -1, np.int64)
    actions[row] = action
    board.step(actions)


def reason(error: IllegalMove) -> str:
    """`superko (an earlier position would come back)`."""
    return f"{error.reason} ({SAYS[error.reason]})"


def action_at(point: tuple[int, int] | None, size: int) -> int:
    """sgfmill counts rows from below, and has None for a pass."""
    return size**2 if point is None else (size - 1 - point[0]) * size + point[1]


def point_at(action: int, size: int) -> tuple[int, int] | None:
    return None if action == size**2 else (size - 1 - action // size, action % size)
