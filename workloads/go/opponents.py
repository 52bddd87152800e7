"""Players by name: a published model, `random`, `greedy`, `gnugo:LEVEL`, or the command line of a program."""

from __future__ import annotations

import shlex
from contextlib import ExitStack

from penstock.errors import ModelError, PenstockError
from penstock.workload import NAME
from workloads.go.board import Kind
from workloads.go.greedy import GreedyPlayer
from workloads.go.match import GNUGO, gnugo, gnugo_file
from workloads.go.players import Player, RandomPlayer
from workloads.go.program import Program, ProgramError, ProgramPlayer

MOST_VISITS = 10_000  # 110 MB of a search's nodes at 9 x 9, 460 MB at 19 x 19
KINDS = "random, greedy, gnugo:LEVEL, NAME@VERSION and GTP command lines are opponents"


def published(
    reference: str,
    store: str | None,
    kind: Kind,
    visits: int | None = None,
    seconds: float = 0.0,
) -> tuple[Player, int]:
    """A published model as a player, and its simulations a move: `visits`, or as many as its config says;
    0 is the network alone. `seconds`: what a move may take at most, 0 = no limit. ModelError where there is
    no such model of Go."""
    if visits is not None and not 0 <= visits <= MOST_VISITS:
        raise ValueError(f"{visits} simulations a move: 0 to {MOST_VISITS} are possible")
    from penstock import registry
    from penstock.store import Store

    opened = Store.open(store)
    version = registry.find(opened, reference)
    if version.card["workload"] != "go":
        raise ModelError(f"model {version.reference} is of workload {version.card['workload']}, not of go")
    import torch

    from workloads.go.predict import GoPredictor

    device = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = GoPredictor(registry.load(opened, version), device)
    number = predictor.settings.visits if visits is None else visits
    if number and kind != "numba":
        raise ValueError(f"board = {kind}: a search plays on numba's boards only; leave --board out")
    return predictor.player(number, seconds=seconds), number


def opponent(name: str, store: str | None, seed: int, timeout: float, until: ExitStack, kind: Kind) -> Player:
    """Who is meant. A program has `timeout` seconds for an answer, and ends with `until`."""
    if name == "random":
        return RandomPlayer()
    if name == "greedy":
        return GreedyPlayer()
    before, at, _ = name.partition("@")
    if at and len(name.split()) == 1 and NAME.fullmatch(before):
        return published(name, store, kind)[0]
    if name.startswith("gnugo:"):
        level = name.removeprefix("gnugo:")
        if not (level.isascii() and level.isdigit() and len(level) < 3):
            raise ValueError(f"{name}: a level is needed, such as gnugo:1")
        command = gnugo(int(level), seed)
    else:
        command = shlex.split(name)
        if command[:1] == [GNUGO[0]]:
            command[0] = gnugo_file()
    try:
        return ProgramPlayer(until.enter_context(Program(command, timeout)))
    except ProgramError as error:
        raise PenstockError(f"{error}; {KINDS}") from None
