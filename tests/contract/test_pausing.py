"""A run that pauses after a validation, and one that is forked from it: what a search trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.config import Optim, Train, to_dict
from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.errors import RunError
from penstock.registry import weights_sha256
from penstock.store import Store
from penstock.training.fork import fork
from penstock.training.loop import train
from penstock.training.progress import Outcome
from penstock.training.run import Run, RunSpec
from penstock.training.world import World
from tests import toy

CONFIG = toy.Config(
    train=Train(epochs=7, batch=23, checkpoint_every=4, validate_every=2, ema=0.9),
    optim=Optim(lr=1e-2, warmup_steps=3),
    model=toy.Net(dropout=0.4),
)
STEPS = 6  # an epoch


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return prepare(toy.workload, "synthetic", toy.Data(), store)


def spec_of(config: toy.Config, dataset: Dataset) -> RunSpec:
    return RunSpec("toy", "tests.toy:workload", to_dict(config), dataset.id)


def go(run: Run, dataset: Dataset, until: int | None = None, config: toy.Config = CONFIG) -> Outcome | None:
    return train(toy.workload, config, dataset, run, World.alone(), until=until)


def test_a_paused_run_ends_with_the_bits_of_one_that_never_was(store: Store, dataset: Dataset) -> None:
    whole = Run.create(store, "whole", spec_of(CONFIG, dataset))
    expected = go(whole, dataset)
    assert expected is not None
    run = Run.create(store, "paused", spec_of(CONFIG, dataset))
    for until, step in ((1, 2 * STEPS), (2, 4 * STEPS), (3, 6 * STEPS)):
        assert go(run, dataset, until) is None
        assert run.validated() == until == len(run.metrics.validations())
        assert run.attempts[-1]["from_step"] == step - 2 * STEPS
        assert go(run, dataset, until) is None
        assert len(run.attempts) == until, "there was nothing to do"
    outcome = go(run, dataset, 4)  # the last validation is that of the end
    assert outcome is not None and outcome.steps == 7 * STEPS
    assert weights_sha256(outcome.weights) == weights_sha256(expected.weights)
    assert outcome.loss_curve_sha256 == expected.loss_curve_sha256
    assert list(run.metrics) == list(whole.metrics)


def test_a_kill_between_two_pauses_changes_nothing(store: Store, dataset: Dataset) -> None:
    whole = go(Run.create(store, "whole", spec_of(CONFIG, dataset)), dataset)
    run = Run.create(store, "killed", spec_of(CONFIG, dataset))
    assert go(run, dataset, 1) is None

    class Killed(Exception):
        pass

    def die(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint" and event["step"] == 16:
            raise Killed

    with pytest.raises(Killed):
        train(toy.workload, CONFIG, dataset, run, World.alone(), die, until=2)
    assert run.validated() == 1
    assert go(run, dataset, 2) is None
    outcome = go(run, dataset)
    assert whole is not None and outcome is not None
    assert weights_sha256(outcome.weights) == weights_sha256(whole.weights)


def test_early_stopping_ends_a_run_before_its_pause(store: Store, dataset: Dataset) -> None:
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, patience=1, epochs=40))
    run = Run.create(store, "stale", spec_of(config, dataset))
    outcome = go(run, dataset, 20, config)
    assert outcome is not None and outcome.steps < 40 * STEPS


@pytest.fixture
def forked(store: Store, dataset: Dataset) -> Iterator[tuple[Run, Run, toy.Config]]:
    """(run paused at its second validation, its fork with another learning rate, the fork's config)"""
    run = Run.create(store, "winner", spec_of(CONFIG, dataset))
    assert go(run, dataset, 2) is None
    config = dataclasses.replace(CONFIG, optim=dataclasses.replace(CONFIG.optim, lr=3e-2))
    yield run, fork(run, store, "fork", spec_of(config, dataset)), config


def test_a_fork_goes_on_where_its_source_was(
    store: Store, dataset: Dataset, forked: tuple[Run, Run, toy.Config]
) -> None:
    run, made, config = forked
    assert made.validated() == 2 and list(made.metrics) == list(run.metrics)
    assert made.attempts == [] and made.identity != run.identity
    outcome = go(made, dataset, None, config)
    assert outcome is not None
    assert made.attempts == [{"attempt": 1, "from_step": 4 * STEPS, "workers": 1}]
    # the source is as it was, and ends as if there had never been a fork
    assert run.validated() == 2
    original = go(run, dataset)
    whole = go(Run.create(store, "whole", spec_of(CONFIG, dataset)), dataset)
    assert original is not None and whole is not None
    assert weights_sha256(original.weights) == weights_sha256(whole.weights)
    before = made.metrics.loss_curve()[: 4 * STEPS]
    assert before.tobytes() == whole_curve(store)[: 4 * STEPS].tobytes()
    assert made.metrics.loss_curve().tobytes() != whole_curve(store).tobytes()


def whole_curve(store: Store) -> Any:
    return Run.open(store, "whole").metrics.loss_curve()


def test_a_fork_is_made_once(store: Store, dataset: Dataset, forked: tuple[Run, Run, toy.Config]) -> None:
    run, made, config = forked
    assert fork(run, store, "fork", spec_of(config, dataset)).identity == made.identity
    with pytest.raises(RunError, match=r"other settings: optim\.lr"):
        fork(run, store, "fork", spec_of(CONFIG, dataset))


def test_a_run_without_a_checkpoint_cannot_be_forked(store: Store, dataset: Dataset) -> None:
    run = Run.create(store, "new", spec_of(CONFIG, dataset))
    with pytest.raises(RunError, match="run 'new' has no checkpoint"):
        fork(run, store, "fork", spec_of(CONFIG, dataset))
    assert not (store.runs / "fork").exists()
