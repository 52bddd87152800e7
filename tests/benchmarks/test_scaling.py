"""What a second worker brings: the sides of `penstock bench train --workers 1,2`, and the whole of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock import catalog
from penstock.benchmarks.train import WARM, _Sides, demand_gpus
from penstock.data.prepare import prepare
from penstock.errors import RunError
from penstock.store import Store
from penstock.training.means import Means
from tests.command import Finished


def test_the_bare_loop_says_what_a_step_took(store: Store, tmp_path: Path) -> None:
    workload = catalog.find("toy")
    config = workload.presets["smoke"]
    dataset = prepare(workload, "synthetic", config.data, store)
    scratch = tmp_path / "scratch"
    step = _Sides(workload, config, dataset.path, scratch, WARM + 50).bare(Means(2, 0, 1, 0.0), apart=True)
    assert step.cpu_s > 0 and step.wall_s > 0


def test_gpus_that_are_not_there_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    demand_gpus(2, 0.0)
    demand_gpus(1, 0.5)
    with pytest.raises(RunError, match="2 workers with 1 GPUs each need 2 and there are 1; lower --workers"):
        demand_gpus(2, 1.0)
    with pytest.raises(RunError, match=r"--gpus-per-worker 0\.5: several workers need whole GPUs"):
        demand_gpus(2, 0.5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_workers_beside_the_bare_loop(
    cli: Callable[..., Finished], figures: Callable[[dict[str, object]], None]
) -> None:
    """Whether 1.8 is there to be had the cores decide: `apart` tells. What is ours is not to lose it."""
    words = ("pathology", "data.pictures=3000", "data.size=64", "train.batch=64")
    made = cli("bench", "train", *words, "--workers", "1,2", "--pairs", 5, "--json").json
    ratios = made["ratios"]
    figures(
        {
            name: {
                part: ratios[name][part] for part in ("value", "low", "high", "median_a", "median_b", "load")
            }
            for name in ratios
        }
    )
    for side in ("ours", "bare", "apart"):
        assert ratios[f"scaling, {side}, workers: 1 to 2"]["pairs"] == 5
