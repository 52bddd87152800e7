"""Every workload can be tuned: its space makes configs that hold, and searches of two come to an end."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import catalog, cluster
from penstock.config import to_dict
from penstock.store import Store
from penstock.training.means import Means
from penstock.training.run import Run
from penstock.tuning import on_ray, trial
from penstock.tuning.search import Search
from penstock.tuning.space import check, config_of, sample
from penstock.tuning.tune import tune

OURS = ("chatbot", "detection", "gan", "go", "pathology", "recsys", "speech")


@pytest.mark.parametrize("name", OURS)
def test_every_suggestion_is_a_config(name: str) -> None:
    workload = catalog.find(name)
    assert workload.space and not any(key.startswith(("data.", "train.")) for key in workload.space)
    for preset in ("smoke", "default", "gpu"):
        base = to_dict(workload.presets[preset])
        check(workload.space, workload.config, base)
        for number in range(10):
            settings = sample(workload.space, 0, number)
            made = to_dict(config_of(workload.config, base, settings))
            for key, value in settings.items():
                section, _, setting = key.partition(".")
                assert made[section][setting] == value


def in_this_process(search: Search, store: Store, means: Means, alone: bool, learners: int | None) -> None:
    """Stands for Ray Tune: one trial after the other."""
    while (job := search.next_job()) is not None:
        until = None if job.until >= search.length else job.until
        search.done(job, trial.train(store.runs / search.run_of(job), means, until))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "recsys",
            [
                "data.users=80",
                "data.items=60",
                "data.ratings=1200",
                "train.epochs=3",
                "train.validate_every=1",
            ],
        ),
        ("speech", ["data.clips=144", "train.epochs=3"]),
    ],
)
def test_a_search_of_its_own_space(
    name: str, words: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "drive", in_this_process)
    monkeypatch.setattr(cluster, "ensure_ray", lambda cpus: None)
    result = tune(name, preset="smoke", trials=2, overrides=words, store=store, name="small")
    assert [set(row["config"]) for row in result.trials] == 2 * [set(catalog.find(name).space)]
    assert result.best["state"] == "finished" and result.best["validations"] == 3
    others = [row for row in result.trials if row is not result.best and row["trial"] != result.best["trial"]]
    assert [(row["state"], row["validations"]) for row in others] == [("stopped", 1)]
    # paused at its rung, it went on: two attempts, no step twice
    attempts: list[dict[str, Any]] = Run.open(store, result.best["run"]).attempts
    assert [attempt["from_step"] for attempt in attempts] == [0, result.best["step"] // 3]
    assert result.version == 1 and result.metrics
