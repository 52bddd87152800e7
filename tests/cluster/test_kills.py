"""Kill any part of a run, give the same command again: the same bits as if nothing had happened."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from penstock import registry
from penstock.store import Store
from penstock.training.packing import unpack
from penstock.training.run import Run
from penstock.training.weights import to_publish
from tests.cluster.killing import Part, Undisturbed, Victim

WORDS = [
    "data.items=800",
    "train.batch=16",
    "train.checkpoint_every=25",
    "train.ema=0.9",
    "train.publish=last",
    "model.dropout=0.2",
    "optim.schedule=cosine",
    "optim.warmup_steps=50",
]


def test_a_kill_of_a_worker_of_the_controller_and_of_the_driver_changes_no_bit(
    store: Store, tmp_path: Path
) -> None:
    draw = random.Random(1)
    victim = Victim(store, "killed", [*WORDS, "train.epochs=55", "train.validate_every=20"])  # 1,705 steps
    try:
        # orphans of a killed driver train on for about 3 s: they must not get to the end
        for part, step in (("worker", 100), ("controller", 350), ("driver", 550)):
            threshold = step + draw.randrange(100)
            victim.wait(f"step {threshold}", reached(victim, threshold))
            time.sleep(0.1 * draw.random())  # a moment between two checkpoints, or while one is written
            victim.kill(part, draw.choice)  # type: ignore[arg-type]
        with closing(Undisturbed(Run.at(victim.path), tmp_path / "undisturbed")) as clean:  # while Ray starts
            result = victim.result()
            check_no_bit_differs(victim, result, clean.wait())
    finally:
        victim.close()
    assert [kill.part for kill in victim.kills] == ["worker", "controller", "driver"]
    assert len(result["attempts"]) == 4


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", [0])
def test_twenty_kills_at_random_moments_change_no_bit(store: Store, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    victim = Victim(store, "killed", [*WORDS, "train.epochs=500", "train.validate_every=50"])  # 15,500 steps
    try:
        for number in range(20):
            part: Part = draw.choice(["worker", "controller", "driver"])
            if draw.random() < 0.75:  # while it trains, else whatever it is at, starting most likely
                begun = victim.kills[-1].attempts if victim.kills else 0
                victim.wait("training again", lambda begun=begun: len(victim.attempts()) > begun, 300)  # type: ignore[misc]
                time.sleep(3 * draw.random())
            else:
                time.sleep(10 * draw.random())
            victim.kill(part, draw.choice)
            kill = victim.kills[-1]
            print(
                f"kill {number + 1}: {part} at checkpoint {kill.newest}, attempt {kill.attempts}", flush=True
            )
        result = victim.result(600)
    finally:
        victim.close()
    print(f"{len(victim.kills)} kills, attempts {[a['from_step'] for a in result['attempts']]}")
    assert len(victim.kills) == 20
    with closing(Undisturbed(Run.at(victim.path), tmp_path / "undisturbed")) as clean:
        check_no_bit_differs(victim, result, clean.wait())


def reached(victim: Victim, step: int) -> Callable[[], bool]:
    return lambda: victim.newest() >= step


def check_no_bit_differs(victim: Victim, result: dict[str, Any], clean: Run) -> None:
    killed = Run.open(victim.store, "killed")

    # the log: not one byte differs, so no step is missing, repeated or other
    assert killed.metrics.path.read_bytes() == clean.metrics.path.read_bytes()
    curve = killed.metrics.loss_curve()
    assert len(curve) == result["steps"] and curve.tobytes() == clean.metrics.loss_curve().tobytes()

    # the weights: published, and those of the last checkpoint with all of the optimiser's state
    last = clean.newest_checkpoint(print)
    assert last is not None
    weights = to_publish(unpack(*last.load()))
    published = registry.load(victim.store, f"toy@{result['version']}").weights
    assert result["weights_sha256"] == registry.weights_sha256(weights) == registry.weights_sha256(published)
    mine = killed.newest_checkpoint(print)
    assert mine is not None and mine.step == last.step == result["steps"]
    (tensors, state), (other_tensors, other_state) = mine.load(), last.load()
    assert state == other_state and tensors.keys() == other_tensors.keys()
    assert all(torch.equal(tensor, other_tensors[name]) for name, tensor in tensors.items())

    # the attempts: each from the newest checkpoint committed before it
    attempts = result["attempts"]
    assert attempts[0]["from_step"] == 0
    for begun, attempt in enumerate(attempts[1:], start=1):
        assert attempt["from_step"] == victim.newest_before[begun], (begun, attempts, victim.newest_before)
    for kill in victim.kills:
        later = [attempt for attempt in attempts if attempt["attempt"] > kill.attempts]
        assert not later or later[0]["from_step"] >= kill.newest
        assert not later or kill.newest == 0 or later[0]["from_step"] > 0
    assert len(registry.models(victim.store, "toy")) == 1
