"""The loop alone in this process: no Ray, no process group."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from penstock.config import Optim, Train, to_dict
from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.errors import ConfigError, ModelError, RunFailed
from penstock.registry import weights_sha256
from penstock.report.snapshots import snapshot_figures
from penstock.store import Store
from penstock.training import checkpoint
from penstock.training.loop import train
from penstock.training.packing import unpack
from penstock.training.progress import Outcome
from penstock.training.run import Run, RunSpec
from penstock.training.world import World
from penstock.workload import Batch, Objective, Schema, Workload
from tests import toy

Fit = Callable[..., tuple[Outcome, Run]]
TRAIN = Train(epochs=2, batch=23, checkpoint_every=4)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("loop"))


@pytest.fixture(scope="module")
def dataset(home: Store) -> Dataset:
    return prepare(toy.workload, "synthetic", toy.Data(), home)


@pytest.fixture
def fit(store: Store, dataset: Dataset) -> Fit:
    """Train in this process; keywords are settings of the sections train, optim and model."""

    def run(
        workload: Workload[Any] = toy.workload,
        name: str = "run",
        data: Dataset = dataset,
        events: list[dict[str, Any]] | None = None,
        start: dict[str, Tensor] | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> tuple[Outcome, Run]:
        config = toy.Config(train=TRAIN, optim=Optim(lr=1e-2))
        for key, value in settings.items():
            section = next(s for s in ("train", "optim", "model") if key in vars(getattr(config, s)))
            config = replace(config, **{section: replace(getattr(config, section), **{key: value})})
        spec = RunSpec(workload.name, "tests.toy:workload", to_dict(config), data.id, seed)
        made = Run.create(store, name, spec)
        on_event = None if events is None else events.append
        return train(workload, config, data, made, World.alone(), on_event, start), made

    return run


def test_it_learns_and_says_what_it_did(fit: Fit) -> None:
    events: list[dict[str, Any]] = []
    outcome, run = fit(epochs=5, events=events)
    assert outcome.goal >= 0.9
    assert outcome.steps == 30
    assert outcome.items_per_s > 0 and outcome.first_step_s > 0
    assert [line["step"] for line in run.metrics if "loss" in line] == list(range(1, 31))
    assert [line["step"] for line in run.metrics.validations()] == [6, 12, 18, 24, 30]
    assert {event["event"] for event in events} == {"start", "step", "validation", "checkpoint", "done"}
    assert run.attempts == [{"attempt": 1, "from_step": 0, "workers": 1}]


def test_the_seed_decides_everything(fit: Fit) -> None:
    one, _ = fit(name="one", dropout=0.4)
    same, _ = fit(name="same", dropout=0.4)
    other, _ = fit(name="other", dropout=0.4, seed=1)
    assert one.loss_curve_sha256 == same.loss_curve_sha256 != other.loss_curve_sha256
    assert weights_sha256(one.weights) == weights_sha256(same.weights) != weights_sha256(other.weights)


class Stop(Exception):
    """Stands for a kill."""


class Mortal(toy.Task):
    """Dies at the batch of a certain number."""

    at = -1

    def collate(self, items: Batch) -> toy.Points:
        self.seen = getattr(self, "seen", -1) + 1
        if self.seen == Mortal.at:
            raise Stop
        return super().collate(items)


class MortalPair(toy.PairTask, Mortal):
    pass


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_a_run_that_dies_at_some_step_goes_on_bit_for_bit(
    kind: str, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    mortal = dataclasses.replace(toy.workload, trainers={"supervised": f"{__name__}:Mortal"})
    settings = {"dropout": 0.4, "ema": 0.9, "accumulate": 2, "kind": kind, "warmup_steps": 3}
    whole, run = fit(mortal, "whole", **settings)
    for step in (0, 3, 4, 5, 6, 7, 11) if kind == "adamw" else (7,):
        monkeypatch.setattr(Mortal, "at", 2 * step + 1)  # in the second micro-batch
        with pytest.raises(Stop):
            fit(mortal, f"dies-{step}", **settings)
        monkeypatch.setattr(Mortal, "at", -1)
        resumed, again = fit(mortal, f"dies-{step}", **settings)
        assert again.attempts[1]["from_step"] == max(s for s in (0, 4, 6, 8) if s <= step)
        assert again.metrics.path.read_bytes() == run.metrics.path.read_bytes()
        assert weights_sha256(resumed.weights) == weights_sha256(whole.weights)


def test_two_objectives_resume_bit_for_bit_too(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    mortal = dataclasses.replace(toy.pair, trainers={"supervised": f"{__name__}:MortalPair"})
    whole, run = fit(mortal, "whole", dropout=0.3)
    monkeypatch.setattr(Mortal, "at", 7)
    with pytest.raises(Stop):
        fit(mortal, "dies", dropout=0.3)
    monkeypatch.setattr(Mortal, "at", -1)
    resumed, _ = fit(mortal, "dies", dropout=0.3)
    assert resumed.loss_curve_sha256 == whole.loss_curve_sha256
    assert weights_sha256(resumed.weights) == weights_sha256(whole.weights)
    line = next(iter(run.metrics))
    assert line["loss"] == line["loss/discriminator"] + line["loss/generator"]


def test_an_objective_changes_only_what_it_moves(fit: Fit) -> None:
    both, _ = fit(toy.pair, "both", epochs=1)
    still, _ = fit(toy.pair, "still", epochs=1, lr=0.0)
    moved = {name for name in both.weights if not torch.equal(both.weights[name], still.weights[name])}
    assert moved == set(both.weights)


def test_a_finished_run_trains_nothing_more(fit: Fit) -> None:
    first, _ = fit()
    again, run = fit()
    assert again.loss_curve_sha256 == first.loss_curve_sha256
    assert weights_sha256(again.weights) == weights_sha256(first.weights)
    assert run.attempts[1]["from_step"] == 12


def test_a_damaged_checkpoint_is_skipped_with_a_warning(fit: Fit) -> None:
    whole, run = fit(publish="last")
    newest = run.checkpoints / "00000012" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    events: list[dict[str, Any]] = []
    again, _ = fit(publish="last", events=events)
    assert "damaged" in next(event["message"] for event in events if event["event"] == "warning")
    assert run.attempts[1]["from_step"] == 8
    assert weights_sha256(again.weights) == weights_sha256(whole.weights)


def test_the_best_weights_are_published_or_the_last(fit: Fit) -> None:
    # it learns, so the worst accuracy comes early
    worse = dataclasses.replace(toy.workload, goal=replace(toy.workload.goal, mode="min"))
    best, run = fit(worse, "best", epochs=4, keep_checkpoints=1)
    last, _ = fit(worse, "last", epochs=4, publish="last")
    assert 0 < best.best_step == last.best_step < 24
    assert checkpoint.steps(run.checkpoints) == [best.best_step, 24]
    assert best.goal == min(line["validation"]["accuracy"] for line in run.metrics.validations())
    state = unpack(*checkpoint.at(run.checkpoints, best.best_step).load())
    assert weights_sha256(best.weights) == weights_sha256(state["module"])
    assert weights_sha256(best.weights) != weights_sha256(last.weights)


def test_it_stops_when_the_goal_no_longer_improves(fit: Fit) -> None:
    outcome, run = fit(epochs=9, patience=2, lr=0.0)
    assert outcome.steps == 18 and outcome.best_step == 6
    again, _ = fit(epochs=9, patience=2, lr=0.0)
    assert again.steps == 18 and run.attempts[1]["from_step"] == 18


def test_averaged_weights_are_published_when_ema_is_on(fit: Fit) -> None:
    plain, _ = fit(name="plain", publish="last")
    averaged, _ = fit(name="averaged", publish="last", ema=0.99)
    assert plain.loss_curve_sha256 == averaged.loss_curve_sha256
    assert weights_sha256(plain.weights) != weights_sha256(averaged.weights)


@pytest.mark.parametrize("workload", [toy.workload, toy.pair], ids=lambda w: w.name)
def test_accumulation_does_not_change_the_maths(workload: Any, fit: Fit) -> None:
    one, _ = fit(workload, "one", precision="fp64", dropout=0.4, publish="last")
    three, _ = fit(workload, "three", precision="fp64", dropout=0.4, publish="last", accumulate=3)
    assert max(float((one.weights[k] - three.weights[k]).abs().max()) for k in one.weights) < 1e-12


def test_bf16_runs_on_a_cpu_and_keeps_weights_in_fp32(fit: Fit) -> None:
    outcome, run = fit(precision="bf16", epochs=5)
    assert outcome.goal >= 0.9
    assert {tensor.dtype for tensor in outcome.weights.values()} == {torch.float32}
    _, other = fit(name="fp32", epochs=5)
    assert 0 < abs(run.metrics.loss_curve() - other.metrics.loss_curve()).max() < 0.1


def test_fp16_on_a_cpu_is_refused(fit: Fit) -> None:
    with pytest.raises(ConfigError, match=r"train\.precision = 'fp16' needs a GPU"):
        fit(precision="fp16")


def test_training_starts_from_other_weights_and_another_label_set_gets_a_new_head(
    fit: Fit, home: Store
) -> None:
    first, _ = fit(name="first", epochs=4)
    same, _ = fit(name="same", start=first.weights, lr=0.0, epochs=1)
    assert weights_sha256(same.weights) == weights_sha256(first.weights)

    four = toy.Data(labels=("left", "right", "left-low", "right-low"))
    other = prepare(toy.workload, "synthetic", four, home)
    events: list[dict[str, Any]] = []
    tuned, _ = fit(name="tuned", data=other, start=first.weights, lr=0.0, epochs=1, events=events)
    assert events[0] == {"event": "start_from", "fresh": ["head.weight", "head.bias"]}
    assert torch.equal(tuned.weights["conv.weight"], first.weights["conv.weight"])
    assert tuned.weights["head.bias"].shape == (4,)

    with pytest.raises(ModelError, match="none of the weights"):
        fit(name="alien", start={"alien": torch.zeros(1)})


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(fit: Fit) -> None:
    with pytest.raises(RunFailed, match=r"run 'run': the loss of step \d+ is (nan|inf); lower optim\.lr"):
        fit(kind="sgd", lr=1e30, clip=0.0)


class Greedy(toy.Task):
    """Two objectives that want the same parameters."""

    def objectives(self) -> Sequence[Objective[toy.Points]]:
        own = list(self.module.parameters())
        return [Objective("one", own, self.loss), Objective("two", own[:1], self.loss)]


class Lazy(toy.Task):
    """Leaves parameters to nobody."""

    def objectives(self) -> Sequence[Objective[toy.Points]]:
        return [Objective("one", list(self.module.parameters())[1:], self.loss)]


class Frozen(toy.Task):
    """Keeps its convolution as it is."""

    def __init__(self, config: toy.Config, schema: Schema) -> None:
        super().__init__(config, schema)
        next(self.module.parameters()).requires_grad_(False)


def test_every_parameter_is_moved_exactly_once(fit: Fit) -> None:
    greedy = dataclasses.replace(toy.workload, trainers={"supervised": f"{__name__}:Greedy"})
    with pytest.raises(ModelError, match=r"'conv\.weight' is moved by 'one' and by 'two'"):
        fit(greedy, "greedy")
    lazy = dataclasses.replace(toy.workload, trainers={"supervised": f"{__name__}:Lazy"})
    with pytest.raises(ModelError, match=r"'conv\.weight' is moved by no objective"):
        fit(lazy, "lazy")
    frozen = dataclasses.replace(toy.workload, trainers={"supervised": f"{__name__}:Frozen"})
    one, _ = fit(frozen, "frozen", epochs=1)
    two, _ = fit(frozen, "frozen-longer", epochs=2)
    assert torch.equal(one.weights["conv.weight"], two.weights["conv.weight"])
    assert not torch.equal(one.weights["head.weight"], two.weights["head.weight"])


@pytest.mark.parametrize(
    ("section", "setting", "value"),
    [("train", "epochs", 0), ("train", "batch", 0), ("train", "checkpoint_every", -1), ("optim", "lr", -1.0)],
)
def test_a_setting_out_of_range_is_named(section: str, setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{section}.{setting} = {value}: at least"):
        replace(getattr(toy.Config(), section), **{setting: value})


class Artist(toy.Evaluator):
    """Draws what it knows: one grey level, from the weights' answer to a fixed request."""

    def snapshot(self, predictor: toy.Predictor) -> bytes:
        (answer,) = predictor.predict([toy.Request(pixels=list(toy.picture(0, 0, 0.0)))])
        assert isinstance(answer, toy.Answer)
        file = io.BytesIO()
        Image.new("L", (4, 4), round(255 * answer.score)).save(file, "PNG")
        return file.getvalue()


def test_a_snapshot_is_kept_for_each_validation_and_the_page_shows_them_in_motion(fit: Fit) -> None:
    artist = dataclasses.replace(toy.workload, evaluator=f"{__name__}:Artist")
    _, run = fit(artist, epochs=3)
    steps = [line["step"] for line in run.metrics.validations()]
    files = sorted(run.snapshots.iterdir())
    assert [file.name for file in files] == [f"{step:08d}.png" for step in steps] and len(steps) == 3
    last, moving = snapshot_figures(run.snapshots)
    assert last.png == files[-1].read_bytes() and str(steps[-1]) in last.title
    different = {file.read_bytes() for file in files}
    with Image.open(io.BytesIO(moving.png)) as picture:
        assert getattr(picture, "n_frames", 1) == len(different) > 1
    assert snapshot_figures(run.path / "none") == []
