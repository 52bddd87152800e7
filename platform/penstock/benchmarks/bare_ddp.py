"""The baseline of `penstock bench train`: the loop one would write by hand, without Ray and checkpoints.

`python -m penstock.benchmarks.bare_ddp RUN_FOLDER STEPS WARM` trains the same task on the same batches with
torch's DistributedDataParallel, over gloo or on GPUs over NCCL, and prints {"cpu_s": …, "wall_s": …} a step
of rank 0, the first WARM steps left out. With `apart` at the end each worker computes its share in a group of
its own: what the cores allow where nobody waits for another.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from penstock import catalog
from penstock.config import from_dict
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.order import global_batch, own_slice, steps_per_epoch
from penstock.training.device import to_device
from penstock.training.gradients import Root, focus
from penstock.training.run import Run
from penstock.training.world import World
from penstock.workload import resolve


def loop(
    rank: int, world: int, folder: str, meet: str, steps: int, warm: int, apart: bool, gate: Any, result: Any
) -> None:
    run = Run.at(Path(folder))
    torch.set_num_threads(run.spec.threads)
    on_gpu = run.spec.device == "cuda"
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{meet}{rank if apart else ''}",
        rank=0 if apart else rank,
        world_size=1 if apart else world,
    )
    workload = catalog.find_reference(run.spec.workload, run.spec.reference)
    config = from_dict(workload.config, run.spec.config)
    rows = Dataset.load(run.dataset_path).train
    torch.manual_seed(0)
    task = resolve(workload.trainers[workload.trainer(config)])(config, Dataset.load(run.dataset_path).schema)
    task.module.to(device)
    here = World(rank, world, device, "ddp")
    # what one writes for two losses: a DDP module and an optimiser each, the other side frozen meanwhile
    objectives = task.objectives()
    moved = {each.name: [one for one in each.moves if one.requires_grad] for each in objectives}
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rowwise_adagrad": torch.optim.Adagrad,
    }
    models, optimisers, schedules = [], [], []
    devices = [rank] if on_gpu else None
    for objective in objectives:
        focus(moved, objective.name)
        models.append(
            DistributedDataParallel(Root(task, [objective]), device_ids=devices, gradient_as_bucket_view=True)
        )
        optimisers.append(
            kinds[config.optim.kind](
                moved[objective.name], lr=config.optim.lr, weight_decay=config.optim.weight_decay, fused=True
            )
        )
        schedules.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimisers[-1], steps))
    batch, per_epoch = config.train.batch, steps_per_epoch(len(rows), config.train.batch)
    for step in range(steps):
        if step == warm:
            _arrive(on_gpu, gate)
            cpu, wall = time.process_time(), time.perf_counter()
        epoch, k = divmod(step, per_epoch)
        if k == 0:
            draws = ItemDraws(0, epoch)
        whole = global_batch(0, epoch, k, len(rows), batch)
        items = task.collate(Items(rows, own_slice(whole, rank, world), draws))
        items = to_device(items, here, "fp32")
        for objective, model, optimiser, schedule in zip(
            objectives, models, optimisers, schedules, strict=True
        ):
            focus(moved, objective.name)
            optimiser.zero_grad(set_to_none=False)
            loss, _weight = model(objective.name, items)
            (loss * (world / len(whole))).backward()
            if config.optim.clip:
                torch.nn.utils.clip_grad_norm_(moved[objective.name], config.optim.clip)
            optimiser.step()
            schedule.step()
    spent = time.process_time() - cpu
    _arrive(on_gpu, gate)
    if rank == 0:
        result["cpu_s"] = spent / (steps - warm)
        result["wall_s"] = (time.perf_counter() - wall) / (steps - warm)
    dist.barrier()
    dist.destroy_process_group()


def _arrive(on_gpu: bool, gate: Any) -> None:
    """All that was asked for so far is done, by every worker: the slowest one counts."""
    if on_gpu:
        torch.cuda.synchronize()
    gate.wait()


def main() -> None:
    folder, steps, warm = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    apart = sys.argv[4:] == ["apart"]
    world = Run.at(Path(folder)).spec.workers
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, tempfile.TemporaryDirectory() as meeting:
        result, gate, meet = manager.dict(), context.Barrier(world), f"{meeting}/meet"
        ranks = [
            context.Process(target=loop, args=(rank, world, folder, meet, steps, warm, apart, gate, result))
            for rank in range(world)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            sys.exit("a rank failed; see above")
        print(json.dumps(dict(result)))


if __name__ == "__main__":
    main()
