"""Go on RLlib: runs that go on after any kill with what they knew, and the same play wherever it is
restored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.rl_module import RLModule

from penstock import registry
from penstock.experiment import train
from penstock.rl.attempt import RLLIB, Attempt
from penstock.rl.module import NET, agent_of
from penstock.serving.server import serve
from penstock.store import Store
from penstock.training import checkpoint
from penstock.training.means import Means
from penstock.training.run import Run
from tests.cluster.killing import Victim
from workloads.go.messages import GoAnswer, GoRequest
from workloads.go.model import Judge
from workloads.go.predict import GoPredictor
from workloads.go.thinking import Thinker

SMALL = [
    *("data.size=3", "data.games=40", "data.matches=1", "model.width=8", "model.blocks=1"),
    *("play.judged=2", "train.batch=16", "train.checkpoint_every=2"),
]
ZERO = [
    *("zero.sizes=[3]", "zero.boards=16", "zero.plies=8", "zero.visits=6", "zero.fast=3", "zero.opening=2"),
    *("zero.capacity=2000", "zero.minutes=0"),
]
PPO = ["trainer=ppo", "ppo.minutes=0", "ppo.boards=4", "ppo.plies=8", "ppo.pool=2", "ppo.pool_every=2"]
ALONE = Means(workers=1, max_workers=0, threads=1, gpus=0)


def test_a_run_goes_on_after_a_kill_of_a_runner_of_the_learner_and_of_the_driver(store: Store) -> None:
    words = [*SMALL, *ZERO, "zero.iterations=60", "zero.rate_every=30", "zero.learners=1"]
    words += ["zero.sizes=[3,4]", "zero.shares=[0.6,0.4]"]
    victim = Victim(store, "killed", words, "go")
    try:
        for part, after in (("runner", 4), ("learner", 16), ("driver", 30)):
            victim.wait(f"checkpoint {after}", reached(victim, after))
            victim.kill(part, lambda found: found[0])  # type: ignore[arg-type]
        result = victim.result()
    finally:
        victim.close()
    steps = [attempt["from_step"] for attempt in result["attempts"]]
    # a runner's death is no new attempt: RLlib starts it again, and training has gone on
    assert len(steps) == 3 and steps[0] == 0 < steps[1] < steps[2] < result["steps"] == 60
    assert steps[1] >= victim.kills[1].newest and steps[2] >= victim.kills[2].newest
    lines = list(Run.open(store, "killed").metrics)
    assert [line["step"] for line in lines if "games" in line and "validation" not in line] == list(
        range(1, 61)
    )
    positions = [line["positions"] for line in lines if "validation" not in line]
    assert positions == sorted(positions) and positions[-1] > positions[0]
    losses = [line["step"] for line in lines if "loss" in line]
    assert losses == list(range(losses[0], 61)) and losses[0] < 20  # also where the board changes
    assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)
    assert registry.find(store, "go").card["metrics"].keys() >= {"win_rate", "accuracy"}


def reached(victim: Victim, step: int) -> Callable[[], bool]:
    return lambda: victim.newest() >= step


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("words", [ZERO, PPO], ids=["zero", "ppo"])
def test_an_attempt_goes_on_with_ring_optimiser_and_counters(store: Store, words: list[str]) -> None:
    kind = "ppo" if words is PPO else "zero"
    events: list[dict[str, Any]] = []
    made = train(
        "go",
        overrides=[*SMALL, *words, f"{kind}.iterations=5", f"{kind}.rate_every=100"],
        workers=1,
        store=store,
        name="short",
        on_event=events.append,
    )
    run = Run.open(store, "short")
    newest = checkpoint.newest(run.checkpoints, pytest.fail)
    assert newest is not None and newest.step == made.steps == 5
    with attempt(run) as first:
        assert first.progress.step == 5
        before = state_of(first)
        first._iterate()
        moved = state_of(first)
    with attempt(run) as again:
        after = state_of(again)
    assert before.keys() == after.keys() and differing(before, after) == []
    # it is compared: an iteration changes weights, moments and what is remembered
    changed = differing(before, moved)
    assert any("exp_avg" in name for name in changed) and any(name.startswith("net/") for name in changed)
    if words is ZERO:
        assert "ring/total" in changed and "rng" in changed
    else:
        assert "updates" in changed


@contextmanager
def attempt(run: Run) -> Iterator[Attempt]:
    made = Attempt(run, ALONE, 0, agent_of(run).plan, lambda event: None)
    try:
        yield made
    finally:
        made.algorithm.stop()


def state_of(one: Attempt) -> dict[str, Any]:
    """Weights, optimiser, average, and what the algorithm keeps beside them, by name."""
    algorithm = one.algorithm
    found = {f"average/{name}": tensor for name, tensor in one.average.items()}
    found |= {f"net/{name}": tensor for name, tensor in algorithm.net().items()}
    learner = algorithm.learner_group.get_state()["learner"]
    found |= leaves("optimizer", learner["optimizer"])
    if hasattr(algorithm, "ring"):
        ring = algorithm.ring.state()
        found |= {f"ring/{name}": values for name, values in ring["columns"].items()}
        found |= {"ring/total": ring["total"], "rng": json.dumps(algorithm.rng.bit_generator.state)}
        found["owed"] = algorithm.owed
    else:
        for number, weights in enumerate(algorithm.past):
            found |= {f"past/{number}/{name}": tensor for name, tensor in weights.items()}
    return found | {"updates": algorithm.updates}


def leaves(name: str, value: Any) -> dict[str, Any]:
    """What dicts and lists hold in the end, by its way there."""
    if isinstance(value, Mapping):
        value = list(value.items())
    elif isinstance(value, list | tuple):
        value = list(enumerate(value))
    else:
        return {} if value is None else {name: value}
    return {way: leaf for key, each in value for way, leaf in leaves(f"{name}/{key}", each).items()}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    def same(a: Any, b: Any) -> bool:
        if isinstance(a, str | int | float):
            return bool(a == b)
        return np.array_equal(np.asarray(a), np.asarray(b))

    return [name for name in one if name not in other or not same(one[name], other[name])]


# ---------------------------------------------------------------- the same play


@pytest.mark.usefixtures("ray_session")
def test_play_is_the_same_from_rllib_checkpoint_registry_and_endpoint(store: Store) -> None:
    words = [*SMALL, *ZERO, "zero.iterations=12", "zero.rate_every=100", "train.ema=0"]
    made = train("go", overrides=words, workers=1, store=store, name="played")
    run = Run.open(store, "played")
    newest = checkpoint.newest(run.checkpoints, pytest.fail)
    assert newest is not None
    folder = newest.path.absolute() / RLLIB / "learner_group" / "learner" / "rl_module" / "default_policy"
    restored = RLModule.from_checkpoint(folder)
    weights = {name.removeprefix(NET): tensor for name, tensor in restored.state_dict().items()}
    version = registry.find(store, f"{made.model}@{made.version}")
    model = registry.load(store, version)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.weights.items())
    thinker = Thinker(Judge(restored.agent.module.eval()), 24, model.config.play.considered)
    predictor = GoPredictor(model, "cpu")
    with serve([version.reference], store=store, port=0, block=False) as endpoint:
        for seed in (0, 1):
            moves: list[str] = []
            while len(moves) < 10:
                asked = {"size": 3, "komi": 0.5, "moves": moves, "visits": 24, "seed": seed}
                (answer,) = predictor.predict([GoRequest.model_validate(asked)])
                assert isinstance(answer, GoAnswer)
                if answer.over:
                    break
                reply = httpx.post(f"{endpoint.url}/v1/models/go/predict", json=asked, timeout=60)
                assert reply.status_code == 200 and reply.json()["move"] == answer.move
                assert reply.json()["variation"] == answer.variation
                moves.append(str(answer.move))
            assert replayed(thinker, moves, seed) == moves and len(moves) > 2
        wrong = httpx.post(
            f"{endpoint.url}/v1/models/go/predict", json={"size": 3, "moves": ["B2", "B2"]}, timeout=60
        )
        assert wrong.status_code == 422 and wrong.json()["errors"][0]["pointer"] == "#/moves/1"
        assert "occupied" in wrong.text and "move 2, B2" in wrong.text


def replayed(thinker: Thinker, moves: list[str], seed: int) -> list[str]:
    """What the restored module plays in the positions of a game."""
    from workloads.go.board import Rules, boards
    from workloads.go.notation import action_of, vertex

    board = boards(Rules(3, 3, 0.5, most_plies=20))
    found = []
    for word in moves:
        thinker.tree = None  # as a request is answered: nothing is known from before
        action = thinker.think(board, 0, np.random.default_rng(seed)).action
        found.append(vertex(action, 3, 3))
        board.step([action_of(word, 3, 3)])
    return found


# ---------------------------------------------------------------- what a user does wrong


@pytest.mark.usefixtures("ray_session")
def test_more_runners_and_learners_than_the_cluster_has_are_refused(store: Store) -> None:
    from penstock.errors import RunError

    words = [*SMALL, *ZERO, "zero.learners=3"]
    with pytest.raises(RunError, match=r"5 workers need 5 CPUs and there are 4"):
        train("go", overrides=words, workers=2, store=store)
    with pytest.raises(RunError, match=r"--workers 1:2: env runners are a fixed number; write --workers N"):
        train("go", overrides=[*SMALL, *ZERO], workers=(1, 2), store=store)


@pytest.mark.usefixtures("ray_session")
def test_self_play_starts_from_a_published_version(store: Store, tmp_path: Path) -> None:
    first = train(
        "go", preset="smoke", overrides=[*SMALL, "train.epochs=1"], workers=1, store=store, live_first=True
    )
    events: list[dict[str, Any]] = []
    words = [*SMALL, *ZERO, "zero.iterations=1", "zero.rate_every=100", "train.ema=0", "optim.lr=0"]
    made = train(
        "go", overrides=words, workers=1, store=store, start_from="go@1", name="after", on_event=events.append
    )
    assert {"event": "start_from", "fresh": []} in events
    one, other = (registry.load(store, registry.find(store, f"go@{v}")).weights for v in (1, made.version))
    assert first.version == 1 and made.version == 2
    assert all(torch.equal(one[name], other[name]) for name in one)
