"""Go: vertices, records, and the engine that speaks GTP."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workloads.go import handicap
from workloads.go.board import BLACK, WHITE, Board, Rules, boards
from workloads.go.gtp import Engine
from workloads.go.match import gnugo
from workloads.go.notation import action_of, diagram, parse, vertex
from workloads.go.players import Player, RandomPlayer
from workloads.go.program import Program
from workloads.go.protocol import LONGEST_LINE
from workloads.go.record import MOST_BYTES, MOST_MOVES, Record, read, replay, write
from workloads.go.search import Floats
from workloads.go.thinking import Thinker

KO = """
. X O .
X . X O
. X O .
. . . .
"""


class Fixed:
    """Plays what it is told to; None resigns."""

    def __init__(self, *actions: int | None) -> None:
        self.actions = list(actions)

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int | None:
        return self.actions.pop(0)


def engine(size: int = 5, player: Player | None = None, **rules: object) -> Engine:
    given = replace(Rules(size, size), **rules)  # type: ignore[arg-type]
    return Engine(player or RandomPlayer(), given, kind="numpy")


def say(engine: Engine, *lines: str) -> str:
    """The last answer, which has to be a good one, without its `= `."""
    said = ""
    for line in lines:
        answer = engine.answer(line)
        assert answer is not None and answer.startswith("=") and answer.endswith("\n\n"), answer
        said = answer[1:].strip("\n").removeprefix(" ")
    return said


def fault(engine: Engine, line: str) -> str:
    answer = engine.answer(line)
    assert answer is not None and answer.startswith("? ") and answer.count("\n") == 2, answer
    return answer[2:-2]


# ---------------------------------------------------------------- vertices and diagrams


def test_vertices_leave_out_the_letter_i_and_count_rows_from_below() -> None:
    assert [vertex(each, 9, 9) for each in (0, 8, 72, 80, 81)] == ["A9", "J9", "A1", "J1", "pass"]
    assert action_of("t19", 19, 19) == 18
    assert vertex(5, 2, 3) == "C1"


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (19, 19)])
def test_every_action_reads_back(shape: tuple[int, int]) -> None:
    for action in range(shape[0] * shape[1] + 1):
        assert action_of(vertex(action, *shape), *shape) == action


@pytest.mark.parametrize("word", ["", "I5", "K1", "A0", "A10", "A-1", "A٣", "5A", "A" * 100, "A1 A2"])
def test_what_is_no_vertex_is_named_in_one_line(word: str) -> None:
    with pytest.raises(ValueError, match="A1 to J9 and pass are possible") as error:
        action_of(word, 9, 9)
    assert "\n" not in str(error.value) and len(str(error.value)) < 120


def test_a_diagram_reads_back_with_and_without_its_coordinates() -> None:
    stones = np.random.default_rng(0).integers(-1, 2, (19, 17)).astype(np.int8)
    assert (parse(diagram(stones)) == stones).all()
    assert parse("X.\n.O\n").tolist() == [[1, 0], [0, -1]]
    assert diagram(parse("X.\n.O")).splitlines() == ["   A B", " 2 X .  2", " 1 . O  1", "   A B"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "0 x 0"), ("X.\nX", "row 2"), ("X?", "'\\?'"), (".\n" * 20, "20 x 1"), ("." * 20_000, "20000")],
)
def test_what_is_no_diagram_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


# ---------------------------------------------------------------- records


def test_a_record_is_written_and_read_back() -> None:
    record = Record(
        *(9, 6.5, (0, 80), (4,), WHITE, ((WHITE, 40), (WHITE, 41), (BLACK, 81), (BLACK, 3))),
        result="B+2.5",
        names=("a ] \\ b", "Łukasz"),
    )
    assert read(write(record)) == record


def test_only_the_main_line_counts_and_setup_is_respected() -> None:
    text = b"(;GM[1]SZ[5]HA[2]KM[0.5]AB[aa:ba]AW[ee]PL[W];W[cc](;W[cd];B[])(;B[dd];W[ab]))"
    record = read(text)
    assert (record.black, record.white, record.to_play) == ((0, 1), (24,), WHITE)
    assert record.moves == ((WHITE, 12), (WHITE, 17), (BLACK, 25))
    assert read(b"(;SZ[9]HA[2]AB[cc][gg])").to_play == WHITE
    board = boards(Rules(5, 5), 2, "numpy")
    replay(record, board, 1)
    assert board.stones[1].ravel()[[0, 1, 12, 17, 24]].tolist() == [1, 1, -1, -1, -1]
    assert not board.stones[0].any() and board.to_play[1] == WHITE


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not SGF"),
        (b"hello", "not SGF"),
        (b"(;SZ[9];B[aa]", "unexpected end"),
        (b"(;SZ[" + b"x" * 1000 + b"])", "SZ"),
        (b"(;SZ[25])", "SZ.*25"),
        (b"(;SZ[0])", "size"),
        (b"(;SZ[9:5])", "SZ"),
        (b"(;GM[2])", "GM"),
        (b"(;KM[nan])", r"KM\[nan\]"),
        (b"(;KM[1e9])", "KM"),
        (b"(;PL[green])", "PL"),
        (b"(;CA[nonsense]PB[a];B[aa])", "nonsense"),
        (b"(;SZ[5];B[aa];W[zz])", r"move 2: W\[zz\]"),
        (b"(;SZ[5];B[a])", "move 1"),
        (b"(;SZ[5];B[a\n\n\x00b])", "move 1"),
        (b"(;SZ[5];B[aa];AW[bb])", "after move 1"),
        (b"(;SZ[5]AB[aa]AW[aa])", "AW names a point"),
        (b"(;SZ[5]AB[aa:zz])", "AB"),
        (b"(;SZ[5]AB" + b"[aa:ee]" * 100 + b")", "AB names more points"),
        (b"(;SZ[5];B[aa]W[bb])", "at once"),
        (b"(;PB[" + b"x" * 5000 + b"])", "PB"),
        (b"(;SZ[5]" + b";B[]" * (MOST_MOVES + 1) + b")", str(MOST_MOVES)),
        (b" " * (MOST_BYTES + 1), str(MOST_BYTES)),
        (b"(" * 100_000, "not SGF"),
    ],
)
def test_a_malformed_record_says_what_is_wrong_in_one_line(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        read(content)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_an_illegal_move_of_a_record_is_named_with_its_reason() -> None:
    board = boards(Rules(4, 4), 1, "numpy")
    stones = parse(KO)
    black, white = (tuple(np.flatnonzero(stones == colour).tolist()) for colour in (BLACK, WHITE))
    setup = Record(4, 0.0, black, white, WHITE)
    take, back = (WHITE, action_of("B3", 4, 4)), (BLACK, action_of("C3", 4, 4))
    for moves, says in [
        ((take, take), r"move 2 \(white B3\) is illegal: occupied"),
        ((take, back), r"move 2 \(black C3\) is illegal: superko"),
        (((WHITE, 0),), r"move 1 \(white A4\) is illegal: suicide"),
    ]:
        with pytest.raises(ValueError, match=says):
            replay(replace(setup, moves=moves), board)
    threat, answer = (BLACK, action_of("D1", 4, 4)), (WHITE, action_of("A1", 4, 4))
    replay(replace(setup, moves=(take, threat, answer, back)), board)
    assert board.plies[0] == 4
    with pytest.raises(ValueError, match="size 4 on a board of 5 x 5"):
        replay(setup, boards(Rules(5, 5), 1, "numpy"))


# played on a server that forbids only the immediate repetition
UNPLAYABLE = {"19x19/reading41.sgf": "move 132 (black A17) is illegal: superko"}


@pytest.mark.real_data
@pytest.mark.parametrize("size", [9, 19])
def test_games_that_were_played_read_and_replay(real_data: Path, size: int) -> None:
    folder = real_data / "go" / "gnugo-games"
    files = sorted((folder / f"{size}x{size}").glob("*.sgf"))
    if not files:
        pytest.skip(f"{folder} holds no games of size {size}")
    found = {}
    board = boards(Rules(size, size, most_plies=min(MOST_MOVES, 6 * size**2)))
    for path in files:
        try:
            replay(read(path.read_bytes()), board)
        except ValueError as error:
            found[path.relative_to(folder).as_posix()] = str(error).partition(" (an")[0]
    assert found == {name: says for name, says in UNPLAYABLE.items() if name.startswith(f"{size}x")}


# ---------------------------------------------------------------- the protocol


def test_lines_are_answered_as_the_protocol_says() -> None:
    go = engine()
    assert go.answer("12 protocol_version") == "=12 2\n\n"
    assert go.answer("name # who\n") == "= Penstock\n\n"
    assert go.answer("7\tknown_command\tplay\r\n") == "=7 true\n\n"
    assert go.answer("known_command lz-analyze") == "= false\n\n"
    assert go.answer("boardsize 7") == "=\n\n"
    assert go.answer("3 fly") == "?3 unknown command\n\n"
    for line in ("", "\n", "  \t ", "# nothing", "\x07"):
        assert go.answer(line) is None
    assert "line too long" in fault(go, "a" * (LONGEST_LINE + 1))
    assert "play takes 2 arguments, not 1" in fault(go, "play b")
    listed = say(go, "list_commands").split("\n")
    assert len(set(listed)) == len(listed) and {"genmove", "quit", "loadsgf", "is_legal"} <= set(listed)
    assert all(say(go, f"known_command {each}") == "true" for each in listed)


def test_an_engine_serves_until_quit_and_survives_long_lines() -> None:
    out = io.StringIO()
    engine().serve(io.StringIO(f"1 name\n\n{'x' * 50_000}\n2 quit\n3 name\n"), out)
    first, second, third, rest = out.getvalue().split("\n\n")
    assert (first, third, rest) == ("=1 Penstock", "=2", "") and second.startswith("? line too long")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("boardsize 20", "unacceptable size"),
        ("boardsize 0", "unacceptable size"),
        ("boardsize -3", "unacceptable size"),
        ("boardsize nine", "no whole number"),
        ("boardsize " + "9" * 5000, "no whole number"),
        ("komi nan", "komi nan"),
        ("komi inf", "komi inf"),
        ("komi 1e9", "komi 1e9"),
        ("komi much", "komi much"),
        ("play green A1", "colour 'green'"),
        ("play b Z9", "vertex 'Z9'"),
        ("genmove pass", "colour"),
        ("undo", "cannot undo"),
        ("fixed_handicap 2", "invalid number of stones: 2; on a board of 5 there are none"),
        ("place_free_handicap 1", "invalid number of stones"),
        ("place_free_handicap 25", "invalid number of stones"),
        ("set_free_handicap", "bad vertex list"),
        ("set_free_handicap A1", "bad vertex list"),
        ("set_free_handicap A1 A1", "bad vertex list"),
        ("set_free_handicap A1 pass", "bad vertex list"),
        ("final_status_list sleeping", "syntax error"),
        ("loadsgf /nowhere.sgf", "cannot load file"),
        ("time_left b -1 0", "less than nothing"),
        ("time_settings 1 2", "3 arguments"),
    ],
)
def test_a_fault_is_answered_in_one_line_and_changes_nothing(line: str, says: str) -> None:
    go = engine()
    before = go.record, go.board.stones.copy()
    assert says in fault(go, line)
    assert go.record == before[0] and (go.board.stones == before[1]).all()


# ---------------------------------------------------------------- a game


def test_illegal_moves_are_refused_with_their_reason() -> None:
    go = engine(4)
    say(go, *(f"play b {each}" for each in ("B4", "A3", "B2", "C3")))
    say(go, *(f"play w {each}" for each in ("C4", "D3", "C2")))
    assert "occupied" in fault(go, "play w B4")
    assert fault(go, "play w A4").startswith("illegal move: suicide")
    say(go, "play w B3")  # takes C3
    assert fault(go, "play b C3").startswith("illegal move: superko")
    assert say(go, "is_legal b C3") == "0" and "C3" not in say(go, "all_legal b").split()
    assert say(go, "is_legal w C3") == "1" and say(go, "is_legal b pass") == "1"
    say(go, "play b D1", "play w pass", "play b C3")
    assert fault(go, "play w B3").startswith("illegal move: superko")


def test_suicide_can_be_allowed() -> None:
    lines = ("play w A3", "play b A2", "play b B2", "play b C3")
    strict, free = engine(3), engine(3, suicide=True)
    say(strict, *lines)
    assert fault(strict, "play w B3").startswith("illegal move: suicide")
    assert say(free, *lines, "play w B3", "list_stones w") == ""


def test_colours_may_move_twice_and_passes_do_not_end_a_game() -> None:
    go = engine(4)
    say(go, *(f"play b {each}" for each in ("B4", "A3", "B2", "C3")))
    say(go, *(f"play w {each}" for each in ("C4", "D3", "C2", "B3")))
    say(go, "play w pass", "play b pass", "play b pass", "play w pass")
    assert fault(go, "play b C3").startswith("illegal move: superko")  # nothing was forgotten
    say(go, "play w A1", "play w D1", "play b C3")
    assert say(go, "move_history").split("\n")[:3] == ["black C3", "white D1", "white A1"]


def test_undo_takes_back_the_game_and_its_positions() -> None:
    go = engine(4)
    lines = [f"play b {each}" for each in ("B4", "A3", "B2", "C3")]
    say(go, *lines, *(f"play w {each}" for each in ("C4", "D3", "C2", "B3")))
    say(go, "undo")
    assert say(go, "is_legal w B3") == "1" and say(go, "list_stones b") == "B4 A3 C3 B2"
    say(go, "play w B3")
    assert fault(go, "play b C3").startswith("illegal move: superko")
    say(go, *["undo"] * 8)
    assert say(go, "list_stones b") == "" and fault(go, "undo") == "cannot undo"


def test_genmove_plays_and_reg_genmove_does_not() -> None:
    go = engine(5, Fixed(12, 12, None, 25, 0))
    assert say(go, "reg_genmove w") == "C3" and say(go, "move_history") == ""
    assert say(go, "genmove w") == "C3" and say(go, "move_history") == "white C3"
    assert say(go, "genmove b") == "resign" and say(go, "move_history") == "white C3"
    assert say(go, "genmove b") == "pass"
    assert say(go, "kgs-genmove_cleanup b") == "A5"


def test_a_player_s_illegal_move_is_a_fault_and_not_the_end() -> None:
    go = engine(5, Fixed(12, 12, 0))
    say(go, "genmove b")
    assert "occupied" in fault(go, "genmove w")
    assert say(go, "genmove w") == "A5"


def test_scores_and_status_are_tromp_taylor_s() -> None:
    go = engine()
    assert say(go, "final_score") == "W+7"
    say(go, "komi 0")
    assert say(go, "final_score") == "0"
    assert say(go, "play b C3", "final_score") == "B+25"
    assert say(go, "komi 24.5", "final_score") == "B+0.5"
    say(go, "play w A1")
    assert say(go, "final_status_list alive") == "C3 A1"
    assert say(go, "final_status_list dead") == say(go, "final_status_list seki") == ""
    assert say(go, "clear_board", "final_score") == "W+24.5"
    shown = say(go, "play b A5", "showboard")
    assert " 5 X . . . .  5" in shown and "white to play" in shown


class Timed:
    """Keeps what time it is given, and takes some of `seconds` by a clock of its own."""

    def __init__(self, *seconds: float) -> None:
        self.takes, self.now, self.given = list(seconds), 0.0, list[float | None]()
        self.action = 25  # a move, as players.Moved has it

    def think(
        self, board: Board, row: int, rng: np.random.Generator | None = None, seconds: float | None = None
    ) -> Timed:
        self.given.append(seconds)
        self.now += self.takes.pop(0) if self.takes else 0
        return self

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int:
        self.think(board, row)
        return self.action


@pytest.mark.parametrize(
    ("lines", "share"),
    [
        ((), None),
        (("time_settings 60 0 0",), 2.0),
        (("time_settings 0 30 1",), 27.0),
        (("time_settings 60 300 25",), 2.0 + 0.9 * 12),
        (("time_settings 60 30 0",), None),  # so GTP says no limit
        (("time_settings 0 0 0",), None),
        (("time_settings 60 0 0", "time_left b 30 0"), 1.0),
        (("time_settings 60 0 0", "time_left w 30 0"), 2.0),
        (("time_settings 60 0 0", "time_left b 0 0"), 0.01),
        (("time_settings 60 300 25", "time_left b 100 5"), 18.0),
        (("time_settings 60 300 25", "time_left b 30 0"), 1.0 + 0.9 * 12),
        (("time_left b 90 0",), 3.0),
        (("time_left b 0 0",), None),
        (("kgs-time_settings absolute 60",), 2.0),
        (("kgs-time_settings byoyomi 60 30 5",), 2.0 + 27.0),
        (("kgs-time_settings byoyomi 60 30 5", "time_left b 30 5"), 27.0),
        (("kgs-time_settings canadian 60 300 25",), 2.0 + 0.9 * 12),
        (("time_settings 60 0 0", "kgs-time_settings none"), None),
        (("time_settings 60 0 0", "time_left b 30 0", "clear_board"), 2.0),
    ],
)
def test_a_move_has_its_share_of_the_time(lines: tuple[str, ...], share: float | None) -> None:
    player = Timed()
    say(engine(player=player), *lines, "genmove b")
    assert player.given == [None if share is None else pytest.approx(share)]


def test_main_time_that_was_used_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    player = Timed(30, 0, 1000, 0)
    monkeypatch.setattr("workloads.go.gtp.monotonic", lambda: player.now)
    go = engine(player=player)
    say(go, "time_settings 60 20 2", "genmove b", "genmove w", "genmove b", "genmove b")
    assert player.given == [pytest.approx(each) for each in (11, 11, 10, 9)]
    say(go, "time_left b 5 1", "genmove b", "genmove b", "reg_genmove w")
    assert player.given[4:] == [pytest.approx(each) for each in (4.5, 9, 11)]


def test_a_thinker_is_timed_and_keeps_its_tree_through_the_engine() -> None:
    asked = 0

    def even(board: Board, rows: np.ndarray) -> tuple[Floats, Floats]:
        nonlocal asked
        asked += len(rows)
        return np.zeros((len(rows), board.rules.actions), np.float32), np.zeros(len(rows), np.float32)

    thinker = Thinker(even, 60, considered=2)
    go = Engine(thinker, Rules(5, 5))
    assert say(go, "time_settings 600 0 0", "genmove b") == "A5" and asked == 61
    say(go, "play w B5", "genmove b")
    assert asked < 2 * 61, "what was known below the two moves is not asked again"
    thinker.clock, moved = iter([0.0, 0.5, 25.0]).__next__, asked
    say(go, "undo", "undo", "play w C3", "genmove b")  # a share of 20 s
    assert asked == moved + 1 + 2, "the root and one batch"


def test_players_that_know_no_time_have_all_of_it() -> None:
    go = engine(player=Fixed(3))
    assert say(go, "time_settings 0 30 1", "time_left b 10 0", "genmove b") == "D5"
    says = "syntax error: time system hourglass; none, absolute, byoyomi, canadian are possible"
    assert fault(go, "kgs-time_settings hourglass 1") == says
    assert fault(go, "kgs-time_settings byoyomi 1") == "syntax error: byoyomi takes 3 numbers, not 1"


# ---------------------------------------------------------------- handicap and files


def test_handicap_stones_stand_where_the_protocol_puts_them() -> None:
    go = engine(9)
    assert sorted(say(go, "fixed_handicap 5").split()) == ["C3", "C7", "E5", "G3", "G7"]
    assert "board not empty" in fault(go, "fixed_handicap 2")
    assert go.board.to_play[0] == WHITE
    assert say(go, "clear_board", "set_free_handicap A1 B2") == ""
    assert say(go, "list_stones b") == "B2 A1"
    assert len(say(go, "boardsize 5", "place_free_handicap 24").split()) == 24
    assert [handicap.most_fixed(size) for size in (6, 7, 8, 9, 13, 18, 19)] == [0, 4, 4, 9, 9, 4, 9]


def test_handicap_stones_stand_where_gnu_go_puts_them() -> None:
    try:
        command = gnugo(1)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with Program(command) as program:
        for size in (7, 8, 9, 12, 13, 19):
            for stones in range(2, handicap.most_fixed(size) + 1):
                program.ask(f"boardsize {size}")
                program.ask("clear_board")
                said = program.ask(f"fixed_handicap {stones}").split()
                assert tuple(sorted(action_of(each, size, size) for each in said)) == handicap.fixed(
                    size, stones
                )


def test_a_game_is_printed_and_loaded(tmp_path: Path) -> None:
    go = engine(9)
    say(go, "komi 5.5", "fixed_handicap 2", "play w E5", "play w E6", "play b pass")
    file = tmp_path / "game.sgf"
    file.write_text(say(go, "printsgf"))
    other = engine(5)
    assert say(other, f"loadsgf {file}") == ""
    assert other.record == go.record and (other.board.stones == go.board.stones).all()
    say(other, f"loadsgf {file} 2")
    assert say(other, "move_history") == "white E5" and say(other, "list_stones w") == "E5"


def test_a_file_that_cannot_be_played_leaves_the_game_alone(tmp_path: Path) -> None:
    go = engine(5)
    say(go, "play b C3")
    for content, says in [
        (b"(;SZ[9];B[aa", "not SGF"),
        (b"(;SZ[9];B[aa];W[aa])", "move 2 (white A9) is illegal: occupied"),
        (b"(;SZ[2]AB[aa:bb])", "no liberty"),
    ]:
        (tmp_path / "bad.sgf").write_bytes(content)
        said = fault(go, f"loadsgf {tmp_path / 'bad.sgf'}")
        assert said.startswith("cannot load file: ") and says in said
    assert "no file" in fault(go, f"loadsgf {tmp_path}")
    assert say(go, "move_history") == "black C3"
