"""What a GPU must do: the loop's maths, kills, speed paths and answers, without Ray and without a network.

`python -m pytest tests/contract/test_gpu.py -q` on a machine with CUDA; elsewhere all of it is skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from penstock import catalog
from penstock.config import Optim, Train, to_dict
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.evaluation.agreement import agree
from penstock.registry import weights_sha256
from penstock.store import Store
from penstock.training import gradients
from penstock.training.device import to_device
from penstock.training.loop import train
from penstock.training.progress import Outcome
from penstock.training.run import Run, RunSpec
from penstock.training.step import moved_names
from penstock.training.world import World
from penstock.workload import Model, Workload, resolve
from tests import toy

# read by cuBLAS when it starts: without it its sums differ from one run to the next
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")

SUPERVISED = ("chatbot", "detection", "gan", "pathology", "recsys", "speech")
SIZES = {"pictures": 80, "dialogues": 400, "users": 60, "ratings": 1_500, "clips": 144}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("gpu"))


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """cuDNN computes in TF32 unless told not to: ten bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@dataclass(frozen=True)
class Made:
    outcome: Outcome
    run: Run

    @property
    def losses(self) -> Any:
        return self.run.metrics.loss_curve()


def fit(
    store: Store,
    name: str,
    workload: Workload[Any],
    config: Any,
    dataset: Dataset,
    world: World,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Made:
    """Train in this process; the same name again goes on."""
    reference = "tests.toy:workload" if workload.name.startswith("toy") else catalog.reference(workload.name)
    kind, strategy = world.device.type, world.strategy
    spec = RunSpec(workload.name, reference, to_dict(config), dataset.id, device=kind, strategy=strategy)
    run = Run.create(store, name, spec)
    return Made(train(workload, config, dataset, run, world, on_event), run)


def toy_config(**settings: Any) -> toy.Config:
    """Settings go to the section that has them."""
    config = toy.Config(train=Train(epochs=3, batch=23, publish="last"), optim=Optim(lr=1e-2))
    for key, value in settings.items():
        section = next(s for s in ("train", "optim", "model") if key in vars(getattr(config, s)))
        config = replace(config, **{section: replace(getattr(config, section), **{key: value})})
    return config


@pytest.fixture(scope="module")
def bars(home: Store) -> Dataset:
    return prepare(toy.workload, "synthetic", toy.Data(), home)


# ---------------------------------------------------------------- the same maths


@pytest.mark.parametrize("workload", [toy.workload, toy.pair], ids=lambda each: each.name)
def test_fp64_on_a_gpu_is_fp64_on_a_cpu(workload: Workload[Any], home: Store, bars: Dataset) -> None:
    config = toy_config(precision="fp64", kind="sgd", ema=0.9, accumulate=2, warmup_steps=3)
    made = {
        device: fit(home, f"fp64-{workload.name}-{device}", workload, config, bars, World.alone(device))
        for device in ("cpu", DEVICE)
    }
    ours, theirs = made["cpu"], made[DEVICE]
    assert ours.losses.size == 18 and np.abs(ours.losses - theirs.losses).max() < 1e-9
    for name, tensor in ours.outcome.weights.items():
        assert float((tensor - theirs.outcome.weights[name]).abs().max()) < 1e-9, name


@pytest.fixture
def nccl(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    torch.cuda.set_device(0)
    where = f"file://{tmp_path / 'meeting'}"
    dist.init_process_group(
        "nccl", init_method=where, rank=0, world_size=1, device_id=torch.device("cuda", 0)
    )
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_group_of_one_trains_as_one_alone_does(
    strategy: str, nccl: None, home: Store, bars: Dataset
) -> None:
    config = toy_config(precision="fp64")
    alone = fit(home, f"alone-{strategy}", toy.workload, config, bars, World.alone(DEVICE))
    world = World.distributed(DEVICE, strategy)
    grouped = fit(home, f"grouped-{strategy}", toy.workload, config, bars, world)
    assert world.size == 1 and np.abs(alone.losses - grouped.losses).max() < 1e-9


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_gradients_through_nccl_are_the_exact_ones(strategy: str, nccl: None, bars: Dataset) -> None:
    """The loop needs no reduction for one worker, so the two are built by hand here."""
    world = World.distributed(DEVICE, strategy)
    kinds: dict[str, Any] = {"ddp": gradients.Ddp, "fsdp": gradients.Fsdp}

    def computed(kind: Any, shard: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        task = toy.Task(toy_config(), bars.schema)
        task.module.to(DEVICE, torch.float64)
        root = gradients.Root(task, task.objectives())
        (names,) = moved_names(root, task.objectives()).values()
        if shard:
            gradients._shard(world, root)
        everything = dict(root.named_parameters())
        own = kind(world, root, "classify", [everything[name] for name in names])
        own.begin()
        weight = torch.zeros((), dtype=torch.float64, device=DEVICE)
        for first, last in ((0, 9), (9, 23)):
            items = Items(bars.train, list(range(first, last)), ItemDraws(0, 0))
            with own.micro(last == 23):
                loss, part = own.loss(to_device(task.collate(items), world, "fp64"))
                loss.backward()
            weight += part
        own.finish(weight)
        own.clip(0.1)
        grads = [parameter.grad for parameter in own.parameters]
        return [getattr(grad, "full_tensor", lambda grad=grad: grad)().clone() for grad in grads]

    exact = computed(gradients.Exact, shard=False)
    reduced = computed(kinds[strategy], shard=strategy == "fsdp")
    assert max(float(grad.abs().max()) for grad in exact) > 1e-3
    for ours, theirs in zip(exact, reduced, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-12


# ---------------------------------------------------------------- kills


class Stop(Exception):
    """Stands for a kill."""


def stops_at(count: int) -> Callable[[dict[str, Any]], None]:
    """Ends training at the `count`-th checkpoint."""
    left = [count]

    def on_event(event: dict[str, Any]) -> None:
        left[0] -= event["event"] == "checkpoint"
        if not left[0]:
            raise Stop

    return on_event


@pytest.fixture(scope="module")
def small(home: Store) -> Callable[[str], tuple[Workload[Any], Any, Dataset]]:
    """A workload with its smoke preset cut short: two epochs of few steps."""
    found: dict[str, tuple[Workload[Any], Any, Dataset]] = {}

    def of(name: str) -> tuple[Workload[Any], Any, Dataset]:
        if name not in found:
            workload = catalog.find(name)
            smoke = workload.presets["smoke"]
            sizes = {field: size for field, size in SIZES.items() if hasattr(smoke.data, field)}
            data = replace(smoke.data, **sizes)
            dataset = prepare(workload, "synthetic", data, home)
            batch = max(dataset.counts["train"] // 5, 2)
            short = {"epochs": 2, "validate_every": 2, "checkpoint_every": 2, "publish": "last"}
            config = replace(smoke, data=data, train=replace(smoke.train, batch=batch, **short))
            found[name] = workload, config, dataset
        return found[name]

    return of


@pytest.fixture(scope="module")
def whole(home: Store, small: Any) -> Callable[[str], Made]:
    """An undisturbed run of each, made once."""
    made: dict[str, Made] = {}

    def of(name: str) -> Made:
        if name not in made:
            made[name] = fit(home, f"{name}-whole", *small(name), World.alone(DEVICE))
        return made[name]

    return of


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_killed_run_goes_on_bit_for_bit(name: str, home: Store, small: Any, whole: Any) -> None:
    parts, undisturbed = small(name), whole(name)
    with pytest.raises(Stop):
        fit(home, f"{name}-dies", *parts, World.alone(DEVICE), stops_at(2))
    resumed = fit(home, f"{name}-dies", *parts, World.alone(DEVICE))
    assert 0 < resumed.run.attempts[1]["from_step"] < resumed.outcome.steps
    assert resumed.outcome.loss_curve_sha256 == undisturbed.outcome.loss_curve_sha256
    assert weights_sha256(resumed.outcome.weights) == weights_sha256(undisturbed.outcome.weights)


# ---------------------------------------------------------------- faster


@pytest.mark.parametrize(
    "settings", [{"precision": "bf16"}, {"precision": "fp16"}, {"compile": True}], ids=str
)
def test_it_learns_in_half_precision_and_compiled(
    settings: dict[str, Any], home: Store, bars: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings.get("compile"):
        if shutil.which("cc") is None and shutil.which("gcc") is None:
            pytest.skip("no C compiler on the PATH, which Triton needs")
        monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    batch = {"batch": bars.counts["train"]} if settings.get("compile") else {}  # one shape, one compilation
    name = "-".join(["faster", *(f"{key}-{value}".lower() for key, value in settings.items())])
    config = toy_config(epochs=30 if batch else 6, **batch, **settings)
    made = fit(home, name, toy.workload, config, bars, World.alone(DEVICE))
    quarter = made.losses.size // 4
    assert made.losses[-quarter:].mean() < 0.7 * made.losses[:quarter].mean()
    assert {tensor.dtype for tensor in made.outcome.weights.values()} == {torch.float32}


# ---------------------------------------------------------------- the same answers


@pytest.mark.parametrize("name", SUPERVISED)
def test_answers_are_those_of_a_cpu(name: str, small: Any, whole: Any) -> None:
    """Within what the endpoint promises: words and ranks the same, numbers within 1e-5."""
    workload, config, dataset = small(name)
    weights = whole(name).outcome.weights
    evaluator = resolve(workload.evaluator)(config, dataset.schema)
    count = min(len(dataset.test), 16)
    requests = evaluator.requests(dataset.test.rows(range(count)))
    answers = []
    for device in ("cpu", DEVICE):
        model = Model(name, 0, config, dataset.schema, {key: each.clone() for key, each in weights.items()})
        answers.append(list(resolve(workload.predictor)(model, device).predict(requests)))
    assert count > 1
    for offline, served in zip(*answers, strict=True):
        assert agree(offline, served).faults == []
