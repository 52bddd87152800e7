"""The parts that decide how far training scales, each measured on this machine.

    python tests/benchmarks/scale_parts.py [--ray] [--bucket] [--large] [--output PARTS.json]

prints the rows of deploy/SCALING.md and writes JSON that `scale.py --parts` takes. `--ray`: what Ray's
controller costs; `--bucket`: the store on a moto server on loopback; `--large`: the order of 100 million
items.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from penstock.errors import StoreError
from penstock.store import Store, sha256_file
from tests.benchmarks.scale import lane_window
from tests.figures import machine

RANKS = (1, 2, 4)
PARAMETERS = (100_000, 1_000_000, 10_000_000)
STATE = 256 * 2**20  # bytes of the checkpoint that is saved


@dataclass
class Parts:
    """Rows of (part, value, unit), and what the simulation takes of them (fields of scale.Plan)."""

    rows: list[tuple[str, float, str]] = field(default_factory=list)
    model: dict[str, float] = field(default_factory=dict)

    def add(self, part: str, value: float, unit: str) -> None:
        self.rows.append((part, value, unit))
        print(f"| {part} | {value:,.4g} {unit} |", flush=True)


def seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """The median of some times."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


# ---------------------------------------------------------------- sums of gradients


def sums(parts: Parts) -> None:
    """Zeroing, a trivial backward pass and the sum, by training/gradients.py over gloo, one thread a rank;
    and all_reduce alone."""
    context = multiprocessing.get_context("spawn")
    for ranks in RANKS:
        with context.Manager() as manager, tempfile.TemporaryDirectory() as folder:
            result = manager.dict()
            group = [
                context.Process(target=_sum, args=(rank, ranks, f"{folder}/meet", result))
                for rank in range(ranks)
            ]
            for process in group:
                process.start()
            for process in group:
                process.join()
            if any(process.exitcode for process in group):
                raise RuntimeError("a rank of the sums failed; see above")
            for (strategy, size), took in dict(result).items():
                name = f"gradients of {size:,} fp32 parameters ({4 * size / 1e6:,.1f} MB)"
                parts.add(f"{name}, {strategy}, {ranks} rank(s)", 1e3 * took, "ms")
            if ranks == 2:
                # two ranks send each other the whole buffer once: n = 2 in 2 size (n - 1) / n
                parts.model["stream"] = 4 * PARAMETERS[-1] / result["all_reduce", PARAMETERS[-1]]
    parts.add("one connection of gloo over loopback, all_reduce alone", parts.model["stream"] / 1e9, "GB/s")


def _sum(rank: int, ranks: int, meet: str, result: Any) -> None:
    import torch
    import torch.distributed as dist
    from torch import nn

    from penstock.training.gradients import Root, place
    from penstock.training.world import World
    from penstock.workload import Objective

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=ranks)
    for size in PARAMETERS:
        for strategy in ("exact", "ddp") if ranks > 1 else ("exact",):
            module = nn.ParameterList([nn.Parameter(torch.zeros(size // 10)) for _ in range(10)])
            objective = Objective("sum", list(module), lambda batch, m=module: (sum(p.sum() for p in m), 1.0))

            class Task:
                pass

            task: Any = Task()
            task.module = module
            root = Root(task, [objective])
            names = {"sum": [name for name, _ in root.named_parameters()]}
            world = World.distributed("cpu", strategy)
            own = place(world, root, names)["sum"]

            def once(own: Any = own) -> None:
                own.begin()
                with own.micro(True):
                    loss, _weight = own.loss(None)
                    loss.backward()
                own.finish(torch.tensor(1.0, dtype=torch.float64))

            for _ in range(3):
                once()
            dist.barrier()
            took = seconds(once, 15)
            if rank == 0:
                result[strategy, size] = took
        if ranks > 1:
            flat = torch.zeros(size)
            took = seconds(lambda flat=flat: dist.all_reduce(flat), 15)  # type: ignore[misc]
            if rank == 0:
                result["all_reduce", size] = took
    dist.barrier()
    dist.destroy_process_group()


# ---------------------------------------------------------------- checkpoints


def checkpoints(parts: Parts, folder: Path) -> None:
    import torch

    from penstock.training import checkpoint

    torch.set_num_threads(1)
    tensors = {f"layer{i}": torch.rand(STATE // 4 // 16) for i in range(16)}
    copy = seconds(lambda: {name: one.to("cpu", copy=True) for name, one in tensors.items()})
    steps = iter(range(1, 100))
    saves = seconds(lambda: checkpoint.save(folder, next(steps), tensors, {}, 0), 3)
    file = folder / f"{checkpoint.steps(folder)[-1]:08d}" / checkpoint.TENSORS
    hashes = seconds(lambda: sha256_file(file), 3)
    blob = file.read_bytes()

    def written() -> None:
        with (folder / "blob").open("wb") as out:
            out.write(blob)
            out.flush()
            os.fsync(out.fileno())

    write = seconds(written, 3)
    newest = checkpoint.at(folder, checkpoint.steps(folder)[-1])
    # tensors are mapped: what is read is what is touched
    load = seconds(lambda: [float(tensor.sum()) for tensor in newest.load()[0].values()], 3)
    for name, took in (
        ("copy to host memory, one thread", copy),
        ("SHA-256, one core", hashes),
        ("write and fsync", write),
        ("checkpoint.save, all of it", saves),
        ("Checkpoint.load and every value added up, from the page cache", load),
    ):
        parts.add(f"checkpoint of {STATE / 1e6:,.0f} MB: {name}", STATE / took / 1e9, "GB/s")
    parts.model |= {"copy": STATE / copy, "hashes": STATE / hashes, "writes": STATE / write}


# ---------------------------------------------------------------- data


def data(parts: Parts, folder: Path, large: bool) -> None:
    from penstock.data.order import permutation
    from penstock.data.shards import Shards, write_shard
    from penstock.workload import Item

    for size in (10**6, 10**7, *((10**8,) if large else ())):
        permutation.cache_clear()
        start = time.perf_counter()
        order = permutation(0, 0, size)
        parts.add(f"permutation of {size:,} items", time.perf_counter() - start, "s")
    parts.add("its memory, an item (two epochs are kept)", order.nbytes / len(order), "bytes")
    permutation.cache_clear()
    permutation(0, 0, 10**6)  # of blocks: 10^10 items in blocks of 10,000
    window = seconds(lambda: lane_window(0, 0, 10**6, 10_000, 1024, 5, 64, 2))
    parts.add("lane_window (scale.py): the next 640,000 of 10^10 items, 1,024 lanes", 1e3 * window, "ms")
    draw = np.random.default_rng(0)
    rows = [
        {"item": f"i{n}", "x": draw.integers(0, 255, (128, 128, 3), np.uint8), "label": n}
        for n in range(2_000)
    ]
    starts = range(0, len(rows), 250)
    took = seconds(lambda: [write_shard(folder / f"{s}.arrow", rows[s : s + 250]) for s in starts], 3)
    nbytes = sum((folder / f"{start}.arrow").stat().st_size for start in starts)
    parts.add("write_shard with fsync and hash", nbytes / took / 1e6, "MB/s")
    shards = Shards([folder / f"{start}.arrow" for start in starts])
    pick = draw.permutation(len(shards))
    read = seconds(lambda: [row["x"].sum() for row in shards.rows(pick)])
    parts.add("rows read in random order, every byte touched", len(pick) / read, "items/s")
    parts.add("the same", nbytes / read / 1e6, "MB/s")
    tracemalloc.start()
    items = [
        Item(name=f"train/class/{n:09d}.jpg", where={"path": f"train/class/{n:09d}.jpg"})
        for n in range(20_000)
    ]
    parts.add(
        "prepare: the driver's memory for a scanned item",
        tracemalloc.get_traced_memory()[0] / len(items),
        "bytes",
    )
    tracemalloc.stop()


# ---------------------------------------------------------------- the store


def runs(parts: Parts, store: Store, where: str, counts: tuple[int, ...] = (10, 100, 1000)) -> None:
    from penstock.experiment import runs as table
    from penstock.training.events import EventLog
    from penstock.training.run import Run, RunSpec, names

    spec = RunSpec("toy", "tests.toy:workload", {"train": {"batch": 32}}, "none")
    made = 0
    for count in counts:
        start, before = time.perf_counter(), made
        while made < count:
            Run.create(store, f"run-{made}", spec)
            made += 1
        parts.add(
            f"{where}: a run published, up to {count}",
            1e3 * (time.perf_counter() - start) / (made - before),
            "ms",
        )
        parts.add(f"{where}: names of {count} runs", 1e3 * seconds(lambda: names(store), 3), "ms")
    parts.add(f"{where}: penstock runs, {count} of them", 1e3 * seconds(lambda: table(store), 3), "ms")
    run = Run.open(store, "run-0")

    def lease() -> None:
        with run.driver_lease():
            pass

    parts.add(f"{where}: a lease taken and dropped", 1e3 * seconds(lease), "ms")
    log = EventLog(run.path / "events.jsonl")
    event = {"event": "step", "step": 1, "steps": 10**6, "loss": 0.123456789, "items_per_s": 1234.5}
    start = time.perf_counter()
    for _ in range(20_000):
        log.append(event)
    log.close()
    parts.add(f"{where}: events written", 20_000 / (time.perf_counter() - start), "events/s")
    start = time.perf_counter()
    told, _ = log.since(0)
    parts.add(f"{where}: events followed", len(told) / (time.perf_counter() - start), "events/s")
    parts.add(f"{where}: the newest of 20,000 events", 1e3 * seconds(lambda: log.last_with("step")), "ms")


def bucket(parts: Parts) -> None:
    """The same on s3://, and how many requests it took; a plain line where this version has no such store."""
    try:
        import boto3
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        print(f"--bucket: {error.name} is not installed; skipped")
        return
    requests = _Counted()
    logging.getLogger("werkzeug").addHandler(requests)
    logging.getLogger("werkzeug").setLevel(logging.INFO)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ.update(given)
    try:
        boto3.client("s3").create_bucket(Bucket="parts")
        try:
            store = Store.open("s3://parts/scale")
        except StoreError as error:
            print(f"--bucket: skipped: {error}")
            return
        before = requests.count
        runs(parts, store, "s3 (moto on loopback)", (10, 50))
        parts.add("s3: requests for all of that", requests.count - before, "requests")
    finally:
        server.stop()
        for name in given:
            os.environ.pop(name)


class _Counted(logging.Handler):
    """Counts what the server logs: one line a request."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "HTTP/1" in record.getMessage()


# ---------------------------------------------------------------- Ray's controller


def controller(parts: Parts) -> None:
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from penstock.cluster import ensure_ray, shutdown

    ensure_ray(cpus=8)

    def entered() -> float:
        return time.time()

    started = {}
    for workers in RANKS:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.time()
            fitted = TorchTrainer(
                entered,
                scaling_config=ScalingConfig(num_workers=workers),
                torch_config=TorchConfig(backend="gloo"),
                run_config=RunConfig(name=f"start-{workers}", storage_path=folder),
            ).fit()
            started[workers] = fitted.return_value - begun
        parts.add(f"worker group of {workers}: fit() to the function entered", started[workers], "s")
    each = (started[RANKS[-1]] - started[1]) / (RANKS[-1] - 1)
    parts.add("of that, each further worker (they share the cores)", each, "s")
    parts.model["start_s"] = started[1]

    class Polled:
        def poll(self) -> dict[str, int]:
            return {"step": 1}

    kind: Any = ray.remote(num_cpus=0.01)(Polled)
    for count in (2, 8):
        actors = [kind.remote() for _ in range(count)]
        ray.get([actor.poll.remote() for actor in actors])
        took = seconds(lambda actors=actors: ray.get([actor.poll.remote() for actor in actors]), 50)  # type: ignore[misc]
        parts.add(f"one poll of {count} actors, an actor", 1e3 * took / count, "ms")
        for actor in actors:
            ray.kill(actor)
    shutdown()


def main() -> None:
    words = argparse.ArgumentParser(description="The parts that decide how far training scales.")
    for flag in ("--ray", "--bucket", "--large"):
        words.add_argument(flag, action="store_true")
    words.add_argument("--output", type=Path, help="JSON for scale.py --parts")
    asked = words.parse_args()
    parts, load = Parts(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="penstock-parts-") as folder:
        for each in steps(parts, Path(folder), asked):
            each()
    flags = [f"--{flag}" for flag in ("ray", "bucket", "large") if getattr(asked, flag)]
    facts = {
        "command": " ".join(["python tests/benchmarks/scale_parts.py", *flags]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }
    print(json.dumps(facts))
    if asked.output:
        rows = [{"part": part, "value": value, "unit": unit} for part, value, unit in parts.rows]
        asked.output.write_text(json.dumps({**facts, "parts": rows, "model": parts.model}, indent=1) + "\n")


def steps(parts: Parts, folder: Path, asked: argparse.Namespace) -> Iterator[Callable[[], None]]:
    for name in ("checkpoints", "shards"):
        (folder / name).mkdir()
    yield lambda: sums(parts)
    yield lambda: checkpoints(parts, folder / "checkpoints")
    yield lambda: data(parts, folder / "shards", asked.large)
    yield lambda: runs(parts, Store.open(folder / "store"), "folder")
    if asked.bucket:
        yield lambda: bucket(parts)
    if asked.ray:
        yield lambda: controller(parts)


if __name__ == "__main__":
    main()
