"""The strength protocol: openings, each with the komi that makes it fair.

Openings are drawn as openings.py has them. Komi is the median of Black's area minus White's over nine games
that GNU Go plays against itself from there: a whole number, so that draws occur, which count half. An opening
after which these games differ by more than ten points is not kept.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.store import write_atomic
from workloads.go.board import Kind, Rules, boards
from workloads.go.match import even, gnugo, illegal, play_game
from workloads.go.notation import action_of, brief, vertex
from workloads.go.openings import PLIES, drawn, openings, too_few
from workloads.go.program import Program, ProgramError, ProgramPlayer

KOMI, GAMES = 7.0, 20  # of a match, where nothing is said


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Start(Strict):
    """`moves`: Black's first, as people write them; `spread`: of the games that chose `komi`, points."""

    moves: tuple[str, ...]
    komi: float = Field(ge=-361, le=361)
    spread: float = Field(ge=0)


class Recipe(Strict):
    """How openings were drawn and kept."""

    seed: int = 0
    plies: int = PLIES
    level: int = 10  # GNU Go's
    plays: int = 9  # games it plays from each
    widest: float = 10.0  # points between them at most


class Starts(Strict):
    """What a file holds. `drawn`: the openings looked at so far, those not kept included."""

    format: Literal[1] = 1
    size: int = Field(ge=1, le=19)
    recipe: Recipe | None = None  # None: made by other means
    drawn: int = 0
    openings: tuple[Start, ...]

    def actions(self) -> list[tuple[int, ...]]:
        """The moves of each. ValueError for a vertex outside the board."""
        return [tuple(action_of(word, self.size, self.size) for word in each.moves) for each in self.openings]


class NoEnd(ProgramError):
    """A game that GNU Go played against itself and that cannot be scored."""


def read(file: Path) -> Starts:
    """Openings that can be played, and a move after them. ValueError names the file and what is wrong."""
    try:
        found = Starts.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise ValueError(f"openings {file}: {where}: {brief(first['msg'], 150)}") from None
    except FileNotFoundError:
        raise ValueError(f"openings {file}: there is no such file; penstock go openings makes one") from None
    except OSError as error:
        raise ValueError(f"openings {file}: {error.strerror}") from None
    board = boards(Rules(found.size, found.size), 1, "numpy")
    for number, each in enumerate(found.openings):
        board.reset()
        where = f"openings {file}: openings.{number}.moves"
        try:
            for word in each.moves:
                action = action_of(word, found.size, found.size)
                wrong = illegal(board, action)
                if wrong:
                    raise ValueError(wrong)
                board.step([action])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if board.done[0]:
            raise ValueError(f"{where}: the game is over after them")
    return found


def beginnings(
    file: Path | None, size: int | None, komi: float | None, games: int | None, seed: int, board: Kind
) -> tuple[Rules, Sequence[tuple[int, ...]], Sequence[float], int]:
    """The rules, openings, the komi of each (none: the rules'), and the number of games of a match.
    ValueError for what does not go together."""
    if file is None:
        count = even(GAMES if games is None else games)
        wide = 9 if size is None else size
        rules = Rules(wide, wide, KOMI if komi is None else komi)
        return rules, openings(rules, count // 2, seed, board), (), count
    starts = read(file)
    most = 2 * len(starts.openings)
    if size is not None and size != starts.size:
        raise ValueError(f"size = {size}: the openings of {file} are of size {starts.size}; leave --size out")
    if komi is not None:
        raise ValueError(f"komi = {komi:g}: the openings of {file} have their own; leave --komi out")
    if not most:
        raise ValueError(f"openings {file}: it holds none")
    count = even(most if games is None else games)
    if count > most:
        raise ValueError(f"games = {count}: the openings of {file} are enough for {most}")
    komis = [each.komi for each in starts.openings]
    return Rules(starts.size, starts.size), starts.actions(), komis, count


def find(
    file: Path,
    size: int,
    count: int,
    recipe: Recipe,
    jobs: int = 1,
    each: Callable[[Starts, str], None] = lambda starts, what: None,
) -> Starts:
    """Draws until `count` openings are kept. The file is written after each, so that the same call goes on
    where one was stopped; `each` is told what it holds, and a line on the opening. ValueError for a file of
    another size or recipe, or where there are not so many openings; FileNotFoundError without GNU Go."""
    gnugo(recipe.level, recipe.seed)  # neither is missing after minutes
    if not 0 <= count <= 10_000:
        raise ValueError(f"count = {count}: 0 to 10000 openings are possible")
    rules = Rules(size, size, komi=0.0, most_plies=max(4 * size**2, 100))
    starts = Starts(size=size, recipe=recipe, openings=())
    if file.exists():
        starts = read(file)
        if (starts.size, starts.recipe) != (size, recipe):
            raise ValueError(f"{file} holds openings of another size, level or seed: name another --output")
    else:
        save(file, starts)
    if len(starts.openings) >= count:
        return starts
    for number, opening in enumerate(drawn(rules, recipe.seed)):
        if number < starts.drawn:
            continue
        moves = tuple(vertex(action, size, size) for action in opening)
        try:
            komi, spread = fair_komi(
                opening, rules, recipe.plays, recipe.level, recipe.seed, jobs=jobs, widest=recipe.widest
            )
        except NoEnd as error:
            komi, spread, what = 0.0, math.inf, f"not kept: {error}"
        else:
            what = f"{'not kept: ' * (spread > recipe.widest)}komi {komi:g}, spread {spread:g}"
        kept = starts.openings
        if spread <= recipe.widest:
            kept = (*kept, Start(moves=moves, komi=komi, spread=spread))
        starts = starts.model_copy(update={"drawn": number + 1, "openings": kept})
        save(file, starts)
        each(starts, f"{' '.join(moves)}: {what}")
        if len(kept) == count:
            return starts
    raise ValueError(too_few(rules, count, len(starts.openings)))


def save(file: Path, starts: Starts) -> None:
    write_atomic(file, starts.model_dump_json(indent=1).encode() + b"\n")


def fair_komi(
    opening: Sequence[int],
    rules: Rules,
    plays: int = 9,
    level: int = 10,
    seed: int = 0,
    timeout: float = 60.0,
    kind: Kind = "numba",
    jobs: int = 1,
    widest: float = math.inf,
) -> tuple[float, float]:
    """The median of Black's area minus White's at the end of GNU Go's games against itself, played on from
    the opening with the seeds `seed`, `seed` + 1, …; and the spread, the largest minus the least. So many
    `jobs` at once; no game begins once the spread is above `widest`. NoEnd for a game without a score."""
    for name, number in (("plays", plays), ("jobs", jobs)):
        if not 0 < number <= 1_000:
            raise ValueError(f"{name} = {number}: 1 to 1000 are possible")

    def area(number: int) -> float:
        with Program([*gnugo(level, seed + number), "--never-resign"], timeout) as program:
            player = ProgramPlayer(program)
            game = play_game(player, player, rules, opening, seed, kind)
        if game.reason != "both passed":
            raise NoEnd(f"{program.name} with seed {seed + number}: {game.reason}, so no score")
        return game.points + rules.komi

    areas: list[float] = []
    pool = ThreadPoolExecutor(jobs)
    try:
        for found in pool.map(area, range(plays)):
            areas.append(found)
            if max(areas) - min(areas) > widest:
                break
    finally:
        pool.shutdown(cancel_futures=True)
    return float(statistics.median(areas)), max(areas) - min(areas)
