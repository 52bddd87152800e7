"""What a second worker brings: the sides of `penstock bench train --workers 1,2`, and the whole of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock import catalog
from penstock.benchmarks.train import WARM, _Sides
from penstock.data.prepare import prepare
from penstock.store import Store
from penstock.training.means import Means
from tests.command import Finished


def test_the_bare_loop_says_what_a_step_took(store: Store, tmp_path: Path) -> None:
    workload = catalog.find("toy")
    config = workload.presets["smoke"]
    dataset = prepare(workload, "synthetic", config.data, store)
    scratch = tmp_path / "scratch"
    step = _Sides(workload, config, dataset.path, scratch, WARM + 50).bare(Means(2, 0, 1, 0.0), apart=True)
    assert 0 < step.cpu_s < 60 and 0 < step.wall_s < 60


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
