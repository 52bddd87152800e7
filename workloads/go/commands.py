"""`penstock go …`: an engine for other programs, and matches."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from penstock.cli.shell import JsonOption, Shell, standard_output
from penstock.errors import PenstockError, RunFailed
from workloads.go.board import Kind, Rules
from workloads.go.gtp import Engine
from workloads.go.match import Game, elo, gnugo, match
from workloads.go.openings import openings
from workloads.go.players import Player, RandomPlayer
from workloads.go.program import Program, ProgramError, ProgramPlayer

Size = Annotated[int, typer.Option("--size", "--rows", help="Points along each side, 1 to 19.")]
Komi = Annotated[float, typer.Option(help="Points White gets for moving second.")]
Suicide = Annotated[bool, typer.Option("--suicide", help="A move may take its own last liberty.")]
Superko = Annotated[
    Literal["positional", "simple"],
    typer.Option(help="positional: no earlier position may come back; simple: not the last but one."),
]
Implementation = Annotated[
    Kind, typer.Option("--board", help="numba is fast once it has started; numpy starts at once.")
]
Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]

app = typer.Typer(
    help="Go: play, and measure who plays better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def go() -> None:
    """Go: play, and measure who plays better."""


@app.command(epilog="Example:  penstock go play --gtp --size 9")
def play(
    gtp: Annotated[bool, typer.Option("--gtp", help="Speak GTP 2 on stdin and stdout.")] = False,
    size: Size = 19,
    komi: Komi = 7.0,
    suicide: Suicide = False,
    superko: Superko = "positional",
    seed: Seed = 0,
    board: Implementation = "numba",
) -> None:
    """A Go engine for other programs. Without a model it plays random moves that fill no eyes."""
    if not gtp:
        raise PenstockError("go play speaks GTP only: say --gtp")
    with one_line_errors():
        engine = Engine(RandomPlayer(), Rules(size, size, komi, suicide, superko), seed_of(seed), board)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text are answered, not died of
    engine.serve(sys.stdin, sys.stdout)


@app.command("match", epilog="Example:  penstock go match random gnugo:1 --size 5 --games 20")
def play_match(
    context: typer.Context,
    one: Annotated[str, typer.Argument(metavar="A", help="random, gnugo:LEVEL, or a GTP command line.")],
    other: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    size: Size = 9,
    komi: Komi = 7.0,
    games: Annotated[
        int, typer.Option(help="An even number; each opening is played with both colours.")
    ] = 20,
    seed: Seed = 0,
    records: Annotated[Path | None, typer.Option(help="A folder for the SGF of every game.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds a program has for an answer.")] = 60.0,
    board: Implementation = "numba",
    json: JsonOption = False,
) -> None:
    """Two players against each other from random openings; the share A won, with its 95 % interval."""
    before = context.obj if isinstance(context.obj, Shell) else Shell()
    with standard_output(json or before.json) as out, one_line_errors(), ExitStack() as programs:
        shell = Shell(json or before.json, before.store, out)
        rules = Rules(size, size, komi)
        if not 0 < timeout <= 86_400:
            raise ValueError(f"timeout = {timeout}: more than 0 and up to 86400 seconds are possible")
        starts = openings(rules, max(games // 2, 1), seed_of(seed), board)

        def tell(number: int, game: Game, black: bool) -> None:
            mine, its = (one, other) if black else (other, one)
            shell.say(f"{number + 1}/{games}  {mine} (black), {its} (white): {game.result}, {game.reason}")

        first, second = (player_of(name, seed, timeout, programs) for name in (one, other))
        result = match(
            first,
            second,
            games,
            rules,
            starts,
            seed=seed,
            records=records,
            names=(one[:200], other[:200]),
            each=tell,
            kind=board,
        )
        ahead = elo(result.score)
        shell.say(
            f"{one}: {result.wins} won, {result.draws} drawn, {result.losses} lost;"
            f" score {result.score:.3f} ({result.low:.3f} to {result.high:.3f}), {ahead:+.0f} Elo"
        )
        figures = {
            name: getattr(result, name) for name in ("wins", "draws", "losses", "score", "low", "high")
        }
        shell.answer(
            {**figures, "elo": ahead, "games": games, "results": [each.result for each in result.games]}
        )


def seed_of(seed: int) -> int:
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed = {seed}: 0 to 2^63 - 1 are possible")
    return seed


def player_of(name: str, seed: int, timeout: float, programs: ExitStack) -> Player:
    """What A or B stands for. A program ends with `programs`."""
    if name == "random":
        return RandomPlayer()
    if name.startswith("gnugo:"):
        level = name.removeprefix("gnugo:")
        if not (level.isascii() and level.isdigit() and len(level) < 3):
            raise ValueError(f"{name}: a level is needed, such as gnugo:1")
        command = gnugo(int(level), seed)
    else:
        command = shlex.split(name)
    try:
        return ProgramPlayer(programs.enter_context(Program(command, timeout)))
    except ProgramError as error:
        raise PenstockError(f"{error}; random, gnugo:LEVEL and GTP command lines are players") from None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """As the shell wants them: what the user can put right, and what failed on the way."""
    try:
        yield
    except ProgramError as error:
        raise RunFailed(str(error)) from None
    except (ValueError, OSError) as error:
        raise PenstockError(str(error)) from None


if __name__ == "__main__":  # ends as the shell does: one line, exit code 1 or 2
    try:
        app(prog_name="go")
    except PenstockError as error:
        print(f"go: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, RunFailed) else 2)
