"""`penstock go …`: an engine for other programs, matches, openings to match from, and how fast it all is."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from penstock.cli.shell import JsonOption, Shell, StoreOption, code_of, complain, standard_output
from penstock.errors import PenstockError, RunFailed
from workloads.go.board import Kind, Rules
from workloads.go.gtp import Engine
from workloads.go.match import Game, elo, match
from workloads.go.opponents import opponent, published
from workloads.go.players import Player, RandomPlayer
from workloads.go.program import ProgramError
from workloads.go.strength import GAMES, KOMI, Recipe, Starts, beginnings, find

Size = Annotated[int, typer.Option("--size", "--rows", help="Points along each side, 1 to 19.")]
Suicide = Annotated[bool, typer.Option("--suicide", help="A move may take its own last liberty.")]
Superko = Annotated[
    Literal["positional", "simple"],
    typer.Option(help="positional: no earlier position may come back; simple: not the last but one."),
]
Implementation = Annotated[
    Kind, typer.Option("--board", help="numba is fast once it has started; numpy starts at once.")
]
Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME[@ALIAS]", help="A published model; default: random moves that fill no eyes."),
]

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
    context: typer.Context,
    gtp: Annotated[bool, typer.Option("--gtp", help="Speak GTP 2 on stdin and stdout.")] = False,
    model: Model = None,
    visits: Annotated[
        int | None,
        typer.Option(metavar="N", help="Simulations a move; 0: the network alone; default: the model's."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="S", help="A move takes at most so many; 0 = no limit.")
    ] = 0.0,
    size: Size = 19,
    komi: Annotated[float, typer.Option(help="Points White gets for moving second.")] = KOMI,
    suicide: Suicide = False,
    superko: Superko = "positional",
    seed: Seed = 0,
    board: Implementation = "numba",
    store: StoreOption = None,
) -> None:
    """A Go engine for other programs: a published model, or random moves that fill no eyes."""
    if not gtp:
        raise PenstockError("go play speaks GTP only: say --gtp")
    if model is None and (visits is not None or seconds):
        raise PenstockError("--visits and --seconds are a model's: say --model NAME, too")
    with one_line_errors():
        rules = Rules(size, size, komi, suicide, superko)
        player: Player = RandomPlayer()
        if model is not None:
            kept = shell_of(context, store=store).store
            player, _ = published(model, kept, board, visits, seconds)
        engine = Engine(player, rules, seed_of(seed), board)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text are answered, not died of
    engine.serve(sys.stdin, sys.stdout)


@app.command("match", epilog="Example:  penstock go match --opponent gnugo:1 --size 5 --games 20")
def play_match(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Option(
            "--opponent", metavar="WHO", help="random, greedy, gnugo:LEVEL, NAME@V, or a GTP command line."
        ),
    ],
    model: Model = None,
    sims: Annotated[
        int | None,
        typer.Option(
            metavar="S", help="Simulations a move of --model; 0: the network alone; default: its own."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", "--rows", help="Points along each side; default: 9, or the file's."),
    ] = None,
    komi: Annotated[
        float | None, typer.Option(help=f"Points White gets; default: {KOMI:g}, or the file's.")
    ] = None,
    games: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Even, as each opening is played with both colours; default: {GAMES}, or all of the file.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--openings", metavar="FILE", help="Of penstock go openings; default: random ones."),
    ] = None,
    seed: Seed = 0,
    records: Annotated[Path | None, typer.Option(help="A folder for the SGF of every game.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds a program has for an answer.")] = 60.0,
    board: Implementation = "numba",
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """A model, or random moves, against somebody; the share it won, draws half, with its 95 % interval."""
    with talking(context, json, store) as shell, ExitStack() as until:
        if not 0 < timeout <= 86_400:
            raise ValueError(f"timeout = {timeout}: more than 0 and up to 86400 seconds are possible")
        if model is None and sims is not None:
            raise ValueError(f"sims = {sims}: random moves need none; say --model NAME, too")
        rules, starts, komis, count = beginnings(file, size, komi, games, seed_of(seed), board)
        mine: Player = RandomPlayer()
        if model is not None:
            mine, sims = published(model, shell.store, board, sims)
        me = model or "random"
        other = opponent(name, shell.store, seed, timeout, until, board)

        def tell(number: int, game: Game, black: bool) -> None:
            first, second = (me, name) if black else (name, me)
            shell.say(
                f"{number + 1}/{count}  {first} (black), {second} (white): {game.result}, {game.reason}"
            )

        result = match(
            mine,
            other,
            count,
            rules,
            starts,
            komis,
            seed,
            records,
            names=(me[:200], name[:200]),
            each=tell,
            kind=board,
        )
        ahead = elo(result.score)
        shell.say(
            f"{me}: {result.wins} won, {result.draws} drawn, {result.losses} lost;"
            f" score {result.score:.3f} ({result.low:.3f} to {result.high:.3f}), {ahead:+.0f} Elo"
        )
        figures: dict[str, Any] = {
            each: getattr(result, each) for each in ("wins", "draws", "losses", "score", "low", "high")
        }
        figures |= {"elo": ahead, "games": count, "size": rules.rows, "sims": sims}
        shell.answer(figures | {"results": [each.result for each in result.games]})


@app.command("openings", epilog="Example:  penstock go openings --size 5 --count 50 --output openings.json")
def fair_openings(
    context: typer.Context,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Goes on with what it holds.")],
    size: Size = 9,
    count: Annotated[int, typer.Option(help="How many are kept in the end.")] = 50,
    level: Annotated[int, typer.Option(help="Of GNU Go, 0 to 10.")] = 10,
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(help="Games that GNU Go plays at once.")] = 2,
    json: JsonOption = False,
) -> None:
    """Random openings for matches, each with fair komi: the median of nine games of GNU Go against itself."""
    with talking(context, json) as shell:

        def tell(starts: Starts, what: str) -> None:
            shell.say(f"{len(starts.openings)}/{count}  {what}")

        try:
            found = find(output, size, count, Recipe(seed=seed_of(seed), level=level), jobs, tell)
        except KeyboardInterrupt as stop:
            complain(f"stopped; {output} holds what was found, and the same command goes on")
            raise typer.Exit(code_of(stop)) from None
        shell.say(f"{output}: {len(found.openings)} openings, of {found.drawn} that were drawn")
        shell.answer({"output": str(output), "openings": len(found.openings), "drawn": found.drawn})


@app.command("bench", epilog="Example:  penstock bench go --pairs 1 --seconds 0.2 --games 64 --no-peers")
def measure(
    context: typer.Context,
    pairs: Annotated[int, typer.Option(min=1, help="How often all are measured, in turn.")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="CPU seconds of each measurement of a board.")
    ] = 2.0,
    games: Annotated[int, typer.Option(min=1, help="That the measured search plays at once.")] = 512,
    peers: Annotated[
        bool, typer.Option(help="Against pgx and OpenSpiel, installed at the first time.")
    ] = True,
    venv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where these are; default: in ~/.cache/penstock.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Boards against those of pgx and OpenSpiel, and the search against its network alone, in one run."""
    with talking(context, json) as shell:
        from workloads.go.bench import bench

        shell.answer(bench(pairs, seconds, games, peers, venv, shell.say))


# ---------------------------------------------------------------- helpers


def seed_of(seed: int) -> int:
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed = {seed}: 0 to 2^63 - 1 are possible")
    return seed


def shell_of(context: typer.Context, json: bool = False, store: str | None = None) -> Shell:
    before = context.obj if isinstance(context.obj, Shell) else Shell()
    return Shell(json or before.json, store or before.store)


@contextmanager
def talking(context: typer.Context, json: bool, store: str | None = None) -> Iterator[Shell]:
    shell = shell_of(context, json, store)
    with standard_output(shell.json) as shell.out, one_line_errors():
        yield shell


@contextmanager
def one_line_errors() -> Iterator[None]:
    """As the shell wants them: what the user can put right, and what failed on the way."""
    try:
        yield
    except ProgramError as error:
        raise RunFailed(str(error)) from None
    except (ValueError, OSError) as error:
        raise PenstockError(str(error)) from None
