"""How fast boards play: `workloads.go` against pgx and OpenSpiel, in one process.

`python tests/benchmarks/go_board.py` installs the peers into a virtual environment of its own (--venv keeps
it) and prints moves per CPU second and ratios as JSON. A move is uniform over the legal actions, the pass
included; the mask is there after every move; a game that two passes or twice the board's points of plies end
begins anew. Ours has exact superko in its mask; the peers have simple ko (see workloads/go/README.md).
Every engine is measured once in each round, the order turned from round to round; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("numpy>=2", "numba>=0.62", "pgx==2.6.0", "jax[cpu]==0.10.2", "open_spiel==2.0.2")
SECONDS = 2.0
Engine = Callable[[float], float]
"""Plays for so many CPU seconds; moves per CPU second."""


def ours(size: int, count: int) -> Engine:
    import numba
    import numpy as np

    from workloads.go.board import Rules, boards

    @numba.njit
    def pick(legal: Any, seeds: Any, actions: Any) -> None:
        """A legal action for each board: tries at random, and counts where sixteen were not enough."""
        for board in range(len(legal)):
            x, many = seeds[board], legal.shape[1]
            action = -1
            for _ in range(16):
                x ^= x << np.uint64(13)
                x ^= x >> np.uint64(7)
                x ^= x << np.uint64(17)
                tried = np.int64(((x >> np.uint64(33)) * np.uint64(many)) >> np.uint64(31))
                if legal[board, tried]:
                    action = tried
                    break
            if action < 0:
                left = np.int64(x >> np.uint64(1)) % legal[board].sum()
                for each in range(many):
                    left -= legal[board, each]
                    if left < 0:
                        action = each
                        break
            seeds[board], actions[board] = x, action

    board = boards(Rules(size, size), count)
    seeds = np.random.default_rng(0).integers(1, 2**63, count).astype(np.uint64)
    actions = np.zeros(count, np.int64)

    def play(seconds: float) -> float:
        moves, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(max(1000 // count, 4)):
                pick(board.legal, seeds, actions)
                board.play(actions)
                board.reset_done()
                moves += count
        return moves / spent

    return play


def pgx(size: int, count: int) -> Engine:
    import jax
    import jax.numpy as jnp
    import pgx as games

    env = games.make(f"go_{size}x{size}")
    step = jax.vmap(games.experimental.auto_reset(env.step, env.init))

    @jax.jit
    def sixteen(state: Any, key: Any) -> Any:
        def one(state: Any, key: Any) -> Any:
            logits = jnp.where(state.legal_action_mask, 0.0, -1e9)
            chosen, keys = jax.random.categorical(key, logits), jax.random.split(key, count)
            return step(state, chosen, keys), None

        return jax.lax.scan(one, state, jax.random.split(key, 16))[0]

    box = [jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.PRNGKey(0), count)), jax.random.PRNGKey(1)]

    def play(seconds: float) -> float:
        """Of the process: jax may use several threads, and they are counted."""
        moves, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds or not moves:
            box[1], key = jax.random.split(box[1])
            box[0] = jax.block_until_ready(sixteen(box[0], key))
            moves += 16 * count
        return moves / spent

    return play


def open_spiel(size: int) -> Engine:
    import random

    import pyspiel

    game = pyspiel.load_game("go", {"board_size": size, "max_game_length": 2 * size * size})
    dice = random.Random(0)
    box = [game.new_initial_state()]

    def play(seconds: float) -> float:
        moves, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(200):
                state = box[0]
                legal = state.legal_actions()
                state.apply_action(legal[int(dice.random() * len(legal))])
                moves += 1
                if state.is_terminal():
                    box[0] = game.new_initial_state()
        return moves / spent

    return play


def measure(rounds: int) -> dict[str, Any]:
    engines: dict[str, Engine] = {}
    for size in (9, 19):
        for count in (1, 64, 1024, 4096):
            engines[f"ours {size} x {count}"] = ours(size, count)
        for count in (64, 1024) if size == 9 else (64,):
            engines[f"pgx {size} x {count}"] = pgx(size, count)
        engines[f"OpenSpiel {size}"] = open_spiel(size)
    for name, engine in engines.items():  # compilation
        print(f"warming up: {name}", file=sys.stderr)
        engine(0.1)
    seen: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds):
        names = list(engines)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            seen[name].append(engines[name](SECONDS))
    moves = {name: statistics.median(found) for name, found in seen.items()}
    ratios = {}
    for size in (9, 19):
        best = max((name for name in moves if name.startswith(f"pgx {size}")), key=moves.__getitem__)
        for peer in (best, f"OpenSpiel {size}"):
            pairs = zip(seen[f"ours {size} x 64"], seen[peer], strict=True)
            ratios[f"ours {size} x 64 / {peer}"] = statistics.median(a / b for a, b in pairs)
    return {"moves_per_cpu_second": moves, "ratios": ratios, "rounds": rounds, "load": os.getloadavg()}


def main() -> None:
    words = argparse.ArgumentParser(description="Random legal play: our boards against pgx and OpenSpiel.")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--venv", type=Path, help="Where the peers are, or are installed; default: temporary.")
    words.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.inside:
        print(json.dumps(measure(asked.rounds), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        where = asked.venv or Path(folder) / "venv"
        python = where / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(where)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS], check=True)
        command = [str(python), str(Path(__file__).resolve()), "--inside", "--rounds", str(asked.rounds)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


if __name__ == "__main__":
    main()
