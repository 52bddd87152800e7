"""Trains a workload's smoke preset, cut short and in fp64, with one, two and four workers.

`python -m tests.cluster.image_parity NAME[:PRESET]` prints {"steps", "2": [weights, losses], "4": …}: the
largest differences to one worker. A process of its own: its workers are forked, and a child hangs in OpenMP
when its parent has used threads.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from penstock import catalog
from penstock.config import Optim
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.store import Store
from tests.cluster.forked import Made, train_with

# of the synthetic source, by what it is called there
SIZES = {"pictures": 100, "dialogues": 400, "users": 101, "ratings": 1_500, "games": 60}


def trained(name: str, folder: str) -> dict[int, Made]:
    """What so many workers make, by their number. The last batch of an epoch holds few items, so that workers
    are empty then. Plain SGD: Adam divides by what is nearly nothing and makes much of rounding."""
    torch.set_num_threads(1)
    name, _, preset = name.partition(":")
    store, workload = Store.open(folder), catalog.find(name)
    smoke = workload.presets[preset or "smoke"]
    data = replace(smoke.data, **{one: size for one, size in SIZES.items() if hasattr(smoke.data, one)})
    dataset = prepare(workload, "synthetic", data, store, mapper=in_process)
    batch = min(range(9, 25), key=lambda size: (dataset.counts["train"] - 1) % size)
    short = {"epochs": 2, "batch": batch, "validate_every": 2, "checkpoint_every": 100}
    train = replace(smoke.train, precision="fp64", publish="last", **short)
    optim = Optim(kind="sgd", lr=1e-3, momentum=0.9, clip=1.0)
    config = replace(smoke, data=data, train=train, optim=optim)
    made: dict[int, Made] = {}
    for workers in (1, 2, 4):
        result = train_with(workers, workload, config, dataset, store)
        assert result is not None
        made[workers] = result
    return made


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = trained(sys.argv[1], folder)
    one = made[1]
    apart: dict[str, Any] = {"steps": len(one.losses)}
    for workers in (2, 4):
        losses = np.abs(made[workers].losses - one.losses) / np.maximum(1.0, np.abs(one.losses))
        apart[str(workers)] = [made[workers].distance(one), float(losses.max())]
    print(json.dumps(apart))


if __name__ == "__main__":
    main()
