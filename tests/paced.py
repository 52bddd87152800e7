"""The toy workload at a walking pace, with a book of what its workers really trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from penstock.data import order
from penstock.data.dataset import Dataset
from penstock.workload import Batch, Row, Schema, Workload
from tests import toy


@dataclass(frozen=True)
class Pace:
    step_s: float = 0.0  # each worker sleeps so long in each step
    slow_rank: int = -1  # and this one
    slow_s: float = 0.0  # so much longer
    book: str = ""  # folder of the book; none is kept without
    run: str = ""  # the run's folder, whose attempts the book tells apart


@dataclass(frozen=True)
class Config(toy.Config):
    pace: Pace = field(default_factory=Pace)


class Task(toy.Task):
    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__(config, schema)
        self.pace = config.pace
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        attempt: list[Any] = [None]
        if self.pace.book and self.rank == 0:  # which holds the fence, so nobody else adds one meanwhile
            path = Path(self.pace.run) / "attempts.json"
            attempt = [len(json.loads(path.read_bytes())) if path.exists() else 0]
        if self.pace.book and dist.is_initialized():
            dist.broadcast_object_list(attempt)
        self.attempt = attempt[0]

    def collate(self, items: Batch) -> toy.Points:
        time.sleep(self.pace.step_s + (self.pace.slow_s if self.rank == self.pace.slow_rank else 0.0))
        if self.pace.book:
            line = {
                "attempt": self.attempt,
                "rank": self.rank,
                "seed": torch.default_generator.initial_seed(),  # which tells the step
                "items": [fingerprint(row) for row, _ in items],
            }
            with (Path(self.pace.book) / f"{os.getpid()}.jsonl").open("ab", buffering=0) as file:
                file.write(json.dumps(line).encode() + b"\n")
        return super().collate(items)


def fingerprint(row: Row) -> str:
    return hashlib.blake2b(np.ascontiguousarray(row["pixels"]).tobytes(), digest_size=8).hexdigest()


def check_book(book: Path, run: Path, dataset: Dataset, seed: int, batch: int) -> dict[int, int]:
    """Asserts that of the steps that count every item was trained on exactly once an epoch, whatever was
    killed. Gives attempt -> how many of its steps count."""
    items = [fingerprint(dataset.train.row(i)) for i in range(len(dataset.train))]
    assert len(set(items)) == len(items)
    per_epoch = order.steps_per_epoch(len(items), batch)
    attempts = json.loads((run / "attempts.json").read_bytes())
    steps = len([line for line in (run / "metrics.jsonl").read_bytes().splitlines() if b'"loss"' in line])
    step_of = {
        int(order.key("step", seed, step, rank)[0]): (step, rank)
        for step in range(steps)
        for rank in range(max(attempt["workers"] for attempt in attempts))
    }
    trained: dict[tuple[int, int], dict[int, list[str]]] = {}  # (attempt, step) -> rank -> items
    for path in book.glob("*.jsonl"):
        for text in path.read_bytes().splitlines():
            line = json.loads(text)
            step, rank = step_of[line["seed"]]
            assert rank == line["rank"]
            shares = trained.setdefault((line["attempt"], step), {})
            assert rank not in shares, f"attempt {line['attempt']} took step {step} twice"
            shares[rank] = line["items"]
    counted: dict[int, int] = dict.fromkeys(range(len(attempts)), 0)
    for epoch in range(steps // per_epoch):
        seen: list[str] = []
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            # a later attempt that began before the step took it again, and only then it counts
            attempt = max(a for a, facts in enumerate(attempts) if facts["from_step"] <= step)
            shares = trained[attempt, step]
            assert sorted(shares) == list(range(attempts[attempt]["workers"])), (attempt, step)
            seen += [item for rank in sorted(shares) for item in shares[rank]]
            counted[attempt] += 1
        assert sorted(seen) == sorted(items), f"epoch {epoch}: {len(seen)} items, {len(set(seen))} different"
    assert sum(counted.values()) == steps > 0
    return counted


workload: Workload[Config] = dataclasses.replace(
    toy.workload,
    name="paced",
    config=Config,
    trainers={"supervised": "tests.paced:Task"},
    presets={"smoke": Config(), "default": Config(), "gpu": Config()},
    summary="the toy at a walking pace",
)
