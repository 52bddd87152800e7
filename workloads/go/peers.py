"""How fast boards play: ours, and those of pgx and OpenSpiel, in one process.

Run as a file (`python -P peers.py ROUNDS SECONDS`) by a Python that has the peers, numpy and numba; bench.py
does. A move is uniform over the legal actions, the pass included; the mask is there after every move; a game
that two passes or twice the board's points of plies end begins anew. Ours has exact superko in its mask; the
peers have simple ko (README.md). Every engine is measured once in each round, the order turned from round to
round.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

SIZES = (9, 19)
Engine = Callable[[float], float]
"""Plays for so many CPU seconds of this process, all its threads counted; moves per CPU second."""


@lru_cache
def picker() -> Callable[[Any, Any, Any], None]:
    import numba
    import numpy as np

    @numba.njit  # type: ignore[untyped-decorator]
    def pick(legal: Any, seeds: Any, actions: Any) -> None:
        """A legal action for each board: tries at random, and counts where sixteen were not enough."""
        for board in range(len(legal)):
            x, many = seeds[board], legal.shape[1]
            action: Any = -1
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

    return pick  # type: ignore[no-any-return]


def ours(size: int, count: int) -> Engine:
    import numpy as np

    from workloads.go.board import Rules, boards

    pick = picker()
    board = boards(Rules(size, size), count)
    seeds = np.random.default_rng(0).integers(1, 2**63, count).astype(np.uint64)
    actions = np.zeros(count, np.int64)

    def play(seconds: float) -> float:
        moves, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds or not moves:
            for _ in range(max(1000 // count, 4)):
                pick(board.legal, seeds, actions)
                board.play(actions)
                board.reset_done()
                moves += count
        return moves / spent

    return play


def pgx(size: int, count: int) -> Engine:
    import jax  # type: ignore[import-not-found]
    import jax.numpy as jnp  # type: ignore[import-not-found]
    import pgx as games  # type: ignore[import-not-found]

    env = games.make(f"go_{size}x{size}")
    step = jax.vmap(games.experimental.auto_reset(env.step, env.init))

    def sixteen(state: Any, key: Any) -> Any:
        def one(state: Any, key: Any) -> Any:
            logits = jnp.where(state.legal_action_mask, 0.0, -1e9)
            chosen, keys = jax.random.categorical(key, logits), jax.random.split(key, count)
            return step(state, chosen, keys), None

        return jax.lax.scan(one, state, jax.random.split(key, 16))[0]

    compiled = jax.jit(sixteen)
    box = [jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.PRNGKey(0), count)), jax.random.PRNGKey(1)]

    def play(seconds: float) -> float:
        moves, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds or not moves:
            box[1], key = jax.random.split(box[1])
            box[0] = jax.block_until_ready(compiled(box[0], key))
            moves += 16 * count
        return moves / spent

    return play


def open_spiel(size: int) -> Engine:
    import random

    import pyspiel  # type: ignore[import-not-found]

    game = pyspiel.load_game("go", {"board_size": size, "max_game_length": 2 * size * size})
    dice = random.Random(0)
    box = [game.new_initial_state()]

    def play(seconds: float) -> float:
        moves, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds or not moves:
            for _ in range(200):
                state = box[0]
                legal = state.legal_actions()
                state.apply_action(legal[int(dice.random() * len(legal))])
                moves += 1
                if state.is_terminal():
                    box[0] = game.new_initial_state()
        return moves / spent

    return play


def engines(peers: bool) -> dict[str, Engine]:
    found = {}
    for size in SIZES:
        for count in (1, 64, 1024, 4096):
            found[f"ours {size} x {count}"] = ours(size, count)
        if peers:
            for count in (64, 1024) if size == 9 else (64,):
                found[f"pgx {size} x {count}"] = pgx(size, count)
            found[f"OpenSpiel {size}"] = open_spiel(size)
    return found


def measure(playing: Mapping[str, Engine], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Of each engine the moves per CPU second in each round."""
    for name, engine in playing.items():  # compilation
        print(f"warming up: {name}", file=sys.stderr, flush=True)
        engine(min(0.1, seconds))
    seen: dict[str, list[float]] = {name: [] for name in playing}
    for number in range(rounds):
        for name in list(playing)[:: 1 if number % 2 == 0 else -1]:
            seen[name].append(playing[name](seconds))
    return seen


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: the peers' own packages come first
    print(json.dumps(measure(engines(True), int(sys.argv[1]), float(sys.argv[2]))))
