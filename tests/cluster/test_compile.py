"""torch.compile, which needs a C++ compiler on a CPU."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from penstock.config import Optim, Train, to_dict
from penstock.data.prepare import prepare
from penstock.store import Store
from penstock.training.loop import train
from penstock.training.run import Run, RunSpec
from penstock.training.world import World
from tests import toy


class Flat(nn.Module):
    """The smallest net with something to fuse; named as the toy's predictor expects it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.softsign(self.head(pixels.flatten(1)))


class FlatTask(toy.Task):
    def __init__(self, config: toy.Config, schema: Any) -> None:
        self.config, self.module = config, Flat()


class FlatPredictor(toy.Predictor):
    def __init__(self, model: Any, device: str) -> None:
        self.labels, self.device = model.schema.labels, device
        self.module = Flat().eval()  # type: ignore[assignment]
        self.module.load_state_dict(dict(model.weights))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on the PATH")
def test_a_compiled_step_learns_what_a_plain_one_does(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # in this process: a pool of compilers takes longer to start than this takes
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    workload = dataclasses.replace(
        toy.workload,
        trainers={"supervised": f"{__name__}:FlatTask"},
        predictor=f"{__name__}:FlatPredictor",
    )
    dataset = prepare(workload, "synthetic", toy.Data(items=100), store)
    curves = []
    for compiled in (False, True):
        settings = Train(epochs=4, batch=200, compile=compiled)  # one shape: one compilation
        config = toy.Config(train=settings, optim=Optim(lr=1e-2))
        spec = RunSpec("toy", "tests.toy:workload", to_dict(config), dataset.id)
        run = Run.create(store, f"compiled-{compiled}".lower(), spec)
        outcome = train(workload, config, dataset, run, World.alone())
        assert set(outcome.weights) == {"head.weight", "head.bias"}
        curves.append(run.metrics.loss_curve())
    assert np.abs(curves[0] - curves[1]).max() < 1e-5
