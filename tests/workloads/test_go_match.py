"""Go: programs of others, matches, openings, and what they say about the players."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.command import command
from workloads.go.board import BLACK, WHITE, Board, Rules, boards
from workloads.go.match import Result, elo, gnugo, match, play_game, wilson
from workloads.go.notation import parse
from workloads.go.openings import openings
from workloads.go.players import RandomPlayer
from workloads.go.program import Program, ProgramError, ProgramPlayer
from workloads.go.record import read, replay
from workloads.go.strength import NoEnd, fair_komi

SMALL = Rules(5, 5)
ENGINE = command("go", "play", "--gtp", "--board", "numpy", "--size", "5")
# answers every command well, and genmove with its argument; `hang` waits for ever, `die` ends
PUPPET = """
import sys, time
for line in sys.stdin:
    word = line.split()[0]
    if word == "quit":
        break
    if word == "genmove":
        if sys.argv[1] == "hang":
            time.sleep(1000)
        if sys.argv[1] == "die":
            sys.exit("out of ideas")
        if sys.argv[1] == "shout":
            print("what?\\n\\n", flush=True)
        if sys.argv[1] == "refuse":
            print("? not now\\n\\n", flush=True)
        print("=", sys.argv[1], end="\\n\\n", flush=True)
    else:
        print("=\\r\\n\\r\\n", end="", flush=True)
"""


def puppet(says: str) -> list[str]:
    return [sys.executable, "-c", PUPPET, says]


def strongest() -> list[str]:
    try:
        return gnugo(1)
    except FileNotFoundError as error:
        pytest.skip(str(error))


class First:
    """The first legal point."""

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int | None:
        return int(board.legal[row].argmax())


class Says:
    def __init__(self, action: int | None) -> None:
        self.action = action

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int | None:
        return self.action


# ---------------------------------------------------------------- the figures


def test_wilson_s_interval_against_a_value_worked_by_hand() -> None:
    # 8 of 10, z = 2: centre (0.8 + 0.2) / 1.4, half 2 sqrt(0.016 + 0.01) / 1.4
    low, high = wilson(8, 10, z=2)
    assert low == pytest.approx((1 - 2 * math.sqrt(0.026)) / 1.4)
    assert high == pytest.approx((1 + 2 * math.sqrt(0.026)) / 1.4)
    assert wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert wilson(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert wilson(10, 10) == pytest.approx((0.72247, 1), abs=1e-5)


def test_a_difference_in_elo_is_the_one_that_predicts_the_score() -> None:
    assert elo(0.5) == 0 and elo(1) == math.inf and elo(0) == -math.inf
    assert 1 / (1 + 10 ** (-elo(0.76) / 400)) == pytest.approx(0.76)
    with pytest.raises(ValueError, match=r"score = 1\.5"):
        elo(1.5)


# ---------------------------------------------------------------- players and openings


def test_the_random_player_fills_no_eye_and_passes_in_the_end() -> None:
    board = boards(Rules(3, 3), 1, "numpy")
    board.set_up(0, parse(".XX\nXX.\nXX."))
    rng = np.random.default_rng(0)
    drawn = {RandomPlayer().choose(board, 0, rng) for _ in range(60)}
    assert drawn == {5, 8}  # the corner is an eye; these two are no eyes
    board.set_up(0, parse(".XX\nXXX\nXX."))
    assert RandomPlayer().choose(board, 0, rng) == 9


@pytest.mark.parametrize("rules", [Rules(5, 5), Rules(3, 5)])
def test_openings_are_seeded_legal_and_differ_under_symmetry(rules: Rules) -> None:
    drawn = openings(rules, 40, 1, "numpy")
    assert drawn == openings(rules, 40, 1, "numpy") != openings(rules, 40, 2, "numpy")
    board = boards(rules, 1, "numpy")
    seen: set[bytes] = set()
    for moves in drawn:
        board.reset()
        for action in moves:
            board.step([action])
        turned = [np.rot90(board.stones[0], k) for k in range(4)]
        same = [each for each in turned if each.shape == board.stones[0].shape]
        ways = {each.tobytes() for one in same for each in (one, one[:, ::-1])}
        assert len(moves) == 4 and not ways & seen
        seen |= ways
    with pytest.raises(ValueError, match="1 openings: 0 different ones were found on a board of 1 x 1"):
        openings(Rules(1, 1), 1, 0, "numpy")
    assert openings(rules, 50, 1, "numpy")[:40] == drawn  # more go on where fewer ended


# ---------------------------------------------------------------- games and matches


def test_a_match_is_the_same_again_from_its_seed(tmp_path: Path) -> None:
    drawn = openings(SMALL, 3, 0, "numpy")

    def played(seed: int, records: Path | None = None) -> Result:
        return match(RandomPlayer(), First(), 6, SMALL, drawn, (), seed, records, ("r", "f"), kind="numpy")

    result = played(1, tmp_path / "games")
    assert result == played(1) != played(2)
    assert result.wins + result.draws + result.losses == 6
    files = sorted((tmp_path / "games").iterdir())
    assert len(files) == 6
    for number, (file, game) in enumerate(zip(files, result.games, strict=True)):
        record = read(file.read_bytes())
        assert record.names == (("r", "f") if number % 2 == 0 else ("f", "r"))
        assert record.result == game.result and game.moves[:4] == drawn[number // 2]
        board = boards(SMALL, 1, "numpy")
        replay(record, board)
        assert board.score()[0] - 7 == game.points


def test_colours_alternate_and_draws_are_half() -> None:
    # whoever is Black has everything: 25 points
    board_rules = Rules(5, 5, komi=0)
    both = match(Says(25), Says(25), 2, board_rules, kind="numpy")
    assert (both.draws, both.score, both.games[0].result) == (2, 0.5, "Draw")
    seen: list[tuple[int, bool]] = []
    black_wins = match(
        *(Says(25), Says(25), 4, board_rules, [(), (12,)], [-1.0, 24.5]),
        each=lambda number, game, black: seen.append((number, black)),
        kind="numpy",
    )
    assert [each.result for each in black_wins.games] == ["B+1", "B+1", "B+0.5", "B+0.5"]
    assert (black_wins.wins, black_wins.losses) == (2, 2)
    assert seen == [(0, True), (1, False), (2, True), (3, False)]


def test_who_plays_an_illegal_move_or_resigns_has_lost() -> None:
    game = play_game(Says(12), Says(12), SMALL, kind="numpy")
    assert (game.winner, game.result, game.moves) == (BLACK, "B+Forfeit", (12,))
    assert game.reason == "white's illegal move 2: C3 is occupied (a stone is there)"
    wild = play_game(Says(26), Says(0), SMALL, kind="numpy")
    assert wild.winner == WHITE and "action 26" in wild.reason
    quits = play_game(Says(0), Says(None), SMALL, kind="numpy")
    assert (quits.result, quits.reason) == ("B+Resign", "white resigned")
    short = play_game(First(), First(), Rules(5, 5, most_plies=3), kind="numpy")
    assert short.reason == "cut off after 3 moves" and len(short.moves) == 3


@pytest.mark.parametrize(
    ("games", "says"), [(3, "games = 3"), (0, "games = 0"), (10**9, "games = 1000000000")]
)
def test_a_match_has_an_even_number_of_games(games: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        match(First(), First(), games, SMALL)


# ---------------------------------------------------------------- programs


def test_our_own_engine_is_driven_as_a_program() -> None:
    with Program(ENGINE) as program:
        assert program.ask("name") == "Penstock" and program.ask("protocol_version") == "2"
        assert program.ask("list_commands").count("\n") > 20
        with pytest.raises(ProgramError, match=r"refused 'play b Z9': vertex 'Z9'"):
            program.ask("play b Z9")
        player = ProgramPlayer(program)
        result = match(player, RandomPlayer(), 2, SMALL, openings(SMALL, 1, 0, "numpy"), kind="numpy")
        assert {game.reason for game in result.games} == {"both passed"}
        own = play_game(player, player, SMALL, kind="numpy")
        assert own.reason == "both passed"
        # the program's board is where ours was
        assert program.ask("final_score") == own.result
    assert program.process.returncode == 0


def test_a_program_that_plays_an_illegal_move_loses() -> None:
    with Program(puppet("C3")) as program:
        game = play_game(RandomPlayer(), ProgramPlayer(program), SMALL, (0, 12), kind="numpy")
        assert game.result == "B+Forfeit" and "C3 is occupied" in game.reason


def test_a_program_that_hangs_is_stopped_and_named() -> None:
    with Program(puppet("hang"), timeout=0.3) as program:
        program.timeout = 20.0  # to start
        program.ask("name")
        program.timeout = 0.3
        with pytest.raises(ProgramError, match=r"python.*: no answer to 'genmove black' in 0.3 s; it was"):
            play_game(ProgramPlayer(program), First(), SMALL, kind="numpy")
        assert program.process.returncode is not None and program.process.returncode < 0
        with pytest.raises(ProgramError, match="ended"):
            program.ask("name")


@pytest.mark.parametrize(
    ("says", "fault"),
    [
        ("die", r"ended \(exit code 1\) at 'genmove black': out of ideas"),
        ("shout", "which is no GTP"),
        ("refuse", "refused 'genmove black': not now"),
        ("Z99", "answered genmove with vertex 'Z99'"),
    ],
)
def test_a_program_that_fails_is_named_in_one_line(says: str, fault: str) -> None:
    with Program(puppet(says)) as program:
        with pytest.raises(ProgramError, match=fault) as error:
            play_game(ProgramPlayer(program), First(), SMALL, kind="numpy")
    assert str(error.value).startswith("python") and "\n" not in str(error.value)


def test_what_cannot_be_started_or_asked_is_refused() -> None:
    with pytest.raises(ProgramError, match="no-such-program cannot be started"):
        Program(["/no-such-program"])
    with pytest.raises(ProgramError, match="empty command line"):
        Program([])
    with Program(puppet("C3")) as program:
        for command in ("", "a\nb", "x" * 20_000):
            with pytest.raises(ProgramError, match="is no GTP command"):
                program.ask(command)
        with pytest.raises(ProgramError, match="square boards, not 3 x 5"):
            ProgramPlayer(program).begin(Rules(3, 5), ())


def test_gnu_go_on_a_small_board() -> None:
    with Program(strongest()) as program:
        drawn = openings(SMALL, 1, 0, "numpy")
        result = match(ProgramPlayer(program), RandomPlayer(), 2, SMALL, drawn, kind="numpy")
    assert {game.reason for game in result.games} <= {"both passed", "white resigned", "black resigned"}


def test_a_fair_komi_is_the_median_of_gnu_go_s_own_games() -> None:
    strongest()
    drawn = openings(SMALL, 1, 3, "numpy")[0]
    fair, spread = fair_komi(drawn, SMALL, plays=3, level=1, kind="numpy")
    assert -25 <= fair <= 25 and fair == round(fair) and 0 <= spread <= 50
    assert (fair, spread) == fair_komi(drawn, SMALL, plays=3, level=1, kind="numpy", jobs=3)
    with pytest.raises(NoEnd, match="cut off after 6 moves"):
        fair_komi(drawn, Rules(5, 5, most_plies=6), plays=1, level=0, kind="numpy")
