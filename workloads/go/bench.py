"""`penstock bench go`: our boards against those of others, and what a search costs beside its network."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penstock.benchmarks.pairs import Ratio, compare, ratio
from penstock.errors import RunFailed
from workloads.go import peers
from workloads.go.board import Board, Rules, boards
from workloads.go.model import GoNet, Judge
from workloads.go.planes import observe
from workloads.go.search import Search

PEERS = ("numpy>=2", "numba>=0.62", "pgx==2.6.0", "jax[cpu]==0.10.2", "open_spiel==2.0.2")
SIZE, VISITS, WIDTH, BLOCKS = 9, 16, 32, 4  # of the search that is measured

Say = Callable[[str], None]


def bench(
    pairs: int, seconds: float, games: int, with_peers: bool, venv: Path | None, say: Say
) -> dict[str, Any]:
    """`ratios` by name; `moves_per_cpu_second` of every board, medians. `seconds`: of each measurement of a
    board; `games` the search plays at once. `venv`: where the peers are, or are installed; None: below the
    user's cache folder."""
    before = os.getloadavg()[0]
    if with_peers:
        seen = beside_peers(installed(venv or cache(), say), pairs, seconds)
    else:
        seen = peers.measure(peers.engines(False), pairs, seconds)
    load = before, os.getloadavg()[0]
    moves = {name: statistics.median(found) for name, found in seen.items()}
    for name, speed in moves.items():
        say(f"{name}: {speed:,.0f} moves a CPU second")
    found = against(seen, load) if with_peers else {}
    found["search"] = search(pairs, games)
    for each in found.values():
        say(each.line())
    ratios = {name: each.to_json() for name, each in found.items()}
    return {"workload": "go", "pairs": pairs, "moves_per_cpu_second": moves, "ratios": ratios}


# ---------------------------------------------------------------- boards


def against(seen: Mapping[str, list[float]], load: tuple[float, float]) -> dict[str, Ratio]:
    """64 of our boards by OpenSpiel's one, and by as many boards as pgx is fastest with."""
    found = {}
    for size in peers.SIZES:
        mine = seen[f"ours {size} x 64"]
        fastest = max(
            (name for name in seen if name.startswith(f"pgx {size}")), key=lambda n: np.median(seen[n])
        )
        for peer, name in (("pgx", fastest), ("OpenSpiel", f"OpenSpiel {size}")):
            what = f"random moves a CPU second, 64 boards of {size} x {size}"
            figures = np.array([mine, seen[name]], np.float64).T
            found[f"{size} x {size} against {peer}"] = ratio(what, name, figures, "moves/s", load)
    return found


def beside_peers(python: Path, pairs: int, seconds: float) -> dict[str, list[float]]:
    """All boards in one process of the peers' own Python."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(python.parent / "numba")}  # its numba may be another
    words = [str(python), "-P", str(Path(peers.__file__)), str(pairs), str(seconds)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise RunFailed(f"the boards beside their peers ended with exit code {done.returncode}; see above")
    seen: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return seen


def cache() -> Path:
    """A folder for these very peers and this Python."""
    asked = " ".join((*PEERS, sys.version)).encode()
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return root / "penstock" / f"go-peers-{hashlib.sha256(asked).hexdigest()[:8]}"


def installed(venv: Path, say: Say) -> Path:
    """The Python of a virtual environment that has the peers. RunFailed where they cannot be installed."""
    python, complete = venv / "bin" / "python", venv / "penstock-peers"
    if complete.exists():
        return python
    say(f"installing {', '.join(PEERS[2:])} into {venv}; --no-peers goes without")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS]
    for words in ([sys.executable, "-m", "venv", "--clear", str(venv)], pip):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise RunFailed(f"the peers cannot be installed into {venv}: {last}; --no-peers goes without")
    complete.touch()
    return python


# ---------------------------------------------------------------- the search


def search(pairs: int, games: int) -> Ratio:
    """Which share of the evaluations a CPU second that the network reaches on its own, in batches of as many
    positions, arrive in the trees: planes, trees, boards and all."""
    torch.manual_seed(0)
    judge = Judge(GoNet(WIDTH, BLOCKS).eval())
    board = played(Rules(SIZE, SIZE), games, 20)
    searching = Search(judge, board.rules, games, VISITS)
    planes = observe(board)
    evaluations = (VISITS + 1) * games  # the roots are evaluated, too

    def in_trees() -> float:
        start = time.process_time()
        searching.run(board)
        return evaluations / (time.process_time() - start)

    def alone() -> float:
        start = time.process_time()
        for _ in range(VISITS + 1):
            judge.ask(planes)
        return evaluations / (time.process_time() - start)

    name = f"evaluations a CPU second in the trees of {games} games of {SIZE} x {SIZE}"
    in_trees(), alone()  # compiled and warm
    return compare(name, "the network alone", in_trees, alone, pairs=pairs, unit="1/s")


def played(rules: Rules, count: int, plies: int) -> Board:
    """Positions of random games, a seed for all."""
    draw, board = np.random.default_rng(0), boards(rules, count)
    for _ in range(plies):
        wishes = np.where(board.legal, draw.random(board.legal.shape), -1.0)
        wishes[:, -1] = np.where(board.legal[:, :-1].any(1), -1.0, wishes[:, -1])
        board.step(np.where(board.done, -1, wishes.argmax(1)))
    return board
